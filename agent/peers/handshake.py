"""Learning why a TLS handshake failed.

The contexts of ``certs.tls`` tell the reason to a listener and send the other side its alert; asyncio then goes on
waiting until that side hangs up. ``attempt`` is for the task that waits: it takes the reason and ends the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from certs.errors import TrustError

T = TypeVar("T")

ALERT_SECONDS = 0.1
"""How long the alert gets to leave before the connection is closed."""

_failure: ContextVar[asyncio.Future[TrustError]] = ContextVar("failure")


def note_failure(error: TrustError) -> None:
    """The listener for ``certs.tls``: it is called in the context of the task in which the transport was made."""
    failure = _failure.get(None)
    if failure is not None and not failure.done():
        failure.set_result(error)


async def attempt(connecting: Coroutine[Any, Any, T]) -> T:
    """Await what makes a TLS connection; raises the ``TrustError`` of a failed handshake once its alert is out."""
    failure: asyncio.Future[TrustError] = asyncio.get_running_loop().create_future()
    token = _failure.set(failure)
    task = asyncio.create_task(connecting)
    _failure.reset(token)
    waiting: set[asyncio.Future[Any]] = {task, failure}
    try:
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
