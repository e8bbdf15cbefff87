"""Work that waits its turn, first come first served, each told its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Told = Callable[[int], None]


class Queue:
    """One at a time. ``lock`` is the turn itself, for others who need nothing to be under way meanwhile."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._waiting: list[Told] = []

    @asynccontextmanager
    async def turn(self, told: Told) -> AsyncIterator[None]:
        """Wait, then work as long as the block lasts. ``told`` is called with how many are before it, as that changes
        and only while there are any."""
        self._waiting.append(told)
        self._tell()
        try:
            await self.lock.acquire()
        finally:
            self._waiting.remove(told)
        try:
            self._tell()
            yield
        finally:
            self.lock.release()

    def _tell(self) -> None:
        if self.lock.locked():
            for before, told in enumerate(self._waiting, start=1):
                told(before)
