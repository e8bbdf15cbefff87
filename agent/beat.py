"""Sleeping until the next beat: what looks for something now and then does so at the same moments, so that an idle
agent wakes once a second and not for each of them.
"""

from __future__ import annotations

import asyncio


async def beat(seconds: float) -> None:
    """Sleep to the next multiple of so many seconds on the loop's clock: that long at most, and less the first time."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time() % seconds)
