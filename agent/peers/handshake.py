"""Telling both sides why a TLS handshake failed.

asyncio ends a failed handshake at once: the alert that OpenSSL has written for the other side stays in the buffer, and
on the server nobody learns the reason. ``TellingSSLObject`` hands the error to the task that waits for the handshake
and lets asyncio flush first; ``attempt`` is how that task waits.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

ALERT_SECONDS = 0.1
"""How long the alert gets to leave before the connection is closed."""

_failure: ContextVar[asyncio.Future[ssl.SSLError]] = ContextVar("failure")


class TellingSSLObject(ssl.SSLObject):
    """For ``SSLContext.sslobject_class``: see above. Without ``attempt`` it is an ordinary ``SSLObject``."""

    asked_for: str | None = None
    """On a server: the TLS name that the client asked for (SNI)."""

    def do_handshake(self) -> None:
        """As ``SSLObject.do_handshake``, but a failure is told to ``attempt`` and looks like "need more data"."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            # The loop calls this in the context of the task that made the transport, which is the one in attempt().
            failure = _failure.get(None)
            if failure is None:
                raise
            if not failure.done():
                error.asked_for = self.asked_for  # type: ignore[attr-defined]
                failure.set_result(error)
            raise ssl.SSLWantReadError("The handshake has failed.") from error


async def attempt(connecting: Coroutine[Any, Any, T]) -> T:
    """Await what makes a TLS connection; raises the ``ssl.SSLError`` of a failed handshake once its alert is out."""
    failure: asyncio.Future[ssl.SSLError] = asyncio.get_running_loop().create_future()
    token = _failure.set(failure)
    task = asyncio.create_task(connecting)
    _failure.reset(token)
    try:
        waiting: set[asyncio.Future[Any]] = {task, failure}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not failure.done():
            return task.result()
        await asyncio.wait({task}, timeout=ALERT_SECONDS)
        raise failure.result()
    finally:
        if not task.done() or failure.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        failure.cancel()
