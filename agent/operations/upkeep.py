"""Work that goes on beside everything else as long as the agent runs, whatever fails in it for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.archive.errors import ArchiveError
from agent.log import get_logger

log = get_logger(__name__)

AGAIN_SECONDS = 5.0


async def keep_up(doing: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work until it ends; where the disk is full or the history cannot be used it begins again a little later.
    The agent serves pages and peers meanwhile: that is how room is made."""
    said = ""
    while True:
        try:
            return await work()
        except (ArchiveError, OSError) as error:
            if str(error) != said:
                said = str(error)
                log.warning("this will be tried again", doing=doing, reason=said)
        await asyncio.sleep(AGAIN_SECONDS)
