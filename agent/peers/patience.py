"""Trying again: a broken transfer is taken up again for as long as that leads anywhere, with growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.log import get_logger
from agent.peers.errors import Interrupted, NotFound, PeerError, Unreachable
from agent.peers.limits import ClientLimits

log = get_logger(__name__)

PASSING = (Interrupted, NotFound, Unreachable)
"""Errors that may be over in a moment: a laptop asleep, a new address, a restart."""


class Patience:
    """Counts how long nothing got through. ``moved`` starts the count again; ``pause`` waits or gives up."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._pause = limits.first_pause
        self._since: float | None = None
        self._ever = False

    def moved(self) -> None:
        """Something got through: bytes were taken, or the peer went on with its work."""
        self._ever = True
        self._since = None
        self._pause = self._limits.first_pause

    async def pause(self, error: PeerError, tell: Callable[[str, int, int, str], None]) -> None:
        """After ``error``: wait a little and return to try again, or raise once it took too long.

        ``tell`` is told of the wait, as progress. What fails before anything got through fails at once: then there is
        nothing to go on with.
        """
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        if not self._ever or not isinstance(error, PASSING):
            raise error
        if now - self._since > self._limits.retry_seconds:
            raise Interrupted(
                f"{error} It was tried again for {self._limits.retry_seconds:g} seconds without success."
            ) from error
        log.info("trying again", reason=str(error), pause=round(self._pause, 2))
        tell("no-answer", 0, 0, f"{error} Trying again.")
        await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads the load
        self._pause = min(self._limits.longest_pause, self._pause * 2)
