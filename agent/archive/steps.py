"""Blocking steps on one file, in threads, one after another: no cancelled task leaves a thread at work unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Steps:
    """Runs the steps of one owner. A thread cannot be cancelled: the next step, or :meth:`settle`, waits for it."""

    def __init__(self) -> None:
        self._running: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread after the step before it has ended."""
        await self.settle()
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._running = future
        return await asyncio.shield(future)

    async def settle(self) -> None:
        """Wait for a step that a cancelled task left behind; how it ended no longer matters."""
        future = self._running
        if future is not None:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # taken note of, or asyncio would complain that nobody did


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end even where this task is cancelled meanwhile; the cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
