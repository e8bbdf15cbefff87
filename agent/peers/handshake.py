"""Learning why a TLS handshake failed.

The contexts of ``certs.tls`` tell the reason to a listener and send the other side its alert; asyncio then goes on
waiting until that side hangs up. ``attempt`` is for the task that waits: it takes the reason and ends the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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


async def attempt(connecting: Coroutine[Any, Any, T], drop: Callable[[T], None] | None = None) -> T:
    """Await what makes a TLS connection; raises the ``TrustError`` of a failed handshake once its alert is out.

    ``drop`` closes a connection that was made and that nobody gets: who waits may be cancelled (another address
    answered first) in the moment in which it is ready.
    """
    failure: asyncio.Future[TrustError] = asyncio.get_running_loop().create_future()
    token = _failure.set(failure)
    task = asyncio.create_task(connecting)
    _failure.reset(token)
    waiting: set[asyncio.Future[Any]] = {task, failure}
    taken = False
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not failure.done():
            taken = True
            return task.result()
        await asyncio.wait({task}, timeout=ALERT_SECONDS)
        raise failure.result()
    finally:
        if not taken:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if drop is not None and not task.cancelled() and task.exception() is None:
                drop(task.result())
        failure.cancel()
