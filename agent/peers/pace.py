"""How fast bytes move: measured, for rate and time left, and held back, for a limit on what this laptop sends."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

WINDOW = 5.0


class Meter:
    """The rate of something that grows, over the last few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, position: int) -> None:
        """It stands at ``position`` now. Going back (a new attempt) starts the measure anew."""
        now = self._clock()
        if self._noted and position < self._noted[-1][1]:
            self._noted.clear()
        self._noted.append((now, position))
        while len(self._noted) > 2 and self._noted[1][0] < now - WINDOW:
            self._noted.popleft()

    @property
    def rate(self) -> float:
        """Bytes a second; 0 where nothing is known."""
        if not self._noted:
            return 0.0
        since, first = self._noted[0]
        elapsed = self._clock() - since
        return (self._noted[-1][1] - first) / elapsed if elapsed > 0 else 0.0

    def left(self, size: int) -> float | None:
        """Seconds until ``size`` at this rate; None where nothing moves."""
        rate = self.rate
        return (size - self._noted[-1][1]) / rate if rate > 0 else None

    def words(self, size: int) -> str:
        """Rate and time left, for people: ``12.3 MB/s, 20 s left``."""
        left = self.left(size)
        if left is None:
            return ""
        minutes, seconds = divmod(round(left), 60)
        time_left = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        return f"{self.rate / 1e6:.1f} MB/s, {time_left} left"


class Throttle:
    """Holds senders back so that together they send at most ``limit`` bytes a second; None: as fast as it goes."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._free_at = 0.0

    def piece(self, most: int) -> int:
        """How many bytes to send at once, so that they move steadily."""
        return most if self._limit is None else max(4096, min(most, int(self._limit / 4)))

    async def spend(self, size: int) -> None:
        """Wait until ``size`` more bytes may go."""
        if self._limit is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at)
        wait = self._free_at - now
        self._free_at += size / self._limit
        if wait > 0:
            await asyncio.sleep(wait)
