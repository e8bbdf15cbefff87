"""``attempt``: a connection is got by who waits for it, or closed."""

from __future__ import annotations

import asyncio

import pytest

from agent.peers.handshake import attempt


async def test_a_connection_that_is_ready_as_its_waiter_is_cancelled_is_closed() -> None:
    dropped: list[str] = []

    async def connecting() -> str:
        await asyncio.sleep(0)
        waiter.cancel()  # another address answered first
        return "connection"

    waiter = asyncio.create_task(attempt(connecting(), dropped.append))
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert dropped == ["connection"]


async def test_a_connection_that_is_got_is_not_closed() -> None:
    dropped: list[str] = []

    async def connecting() -> str:
        return "connection"

    assert await attempt(connecting(), dropped.append) == "connection"
    assert dropped == []
