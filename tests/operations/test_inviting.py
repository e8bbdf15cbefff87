"""The invitation that the page holds open: begun twice at once, and taken back before it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.operations import inviting
from agent.operations.inviting import ENDED, OPEN, OPENING, Inviting, NoInvitation
from certs.roster import Role
from tests.support.archives import workspace_at


class Windows:
    """In place of ``open_window``: a window that opens when it may, and never ends by itself."""

    def __init__(self) -> None:
        self.may_open = asyncio.Event()
        self.begun = self.closed = 0

    @asynccontextmanager
    async def open(self, *_: object, **__: object) -> AsyncIterator[tuple[str, SimpleNamespace]]:
        self.begun += 1
        try:
            await self.may_open.wait()
            yield f"code-{self.begun}", SimpleNamespace(port=1, joined=asyncio.Event().wait)
        finally:
            self.closed += 1


@pytest.fixture
async def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = Windows()
    monkeypatch.setattr(inviting, "open_window", made.open)
    return made


@pytest.fixture
async def page(tmp_path: Path, windows: Windows) -> AsyncIterator[Inviting]:
    workspace = workspace_at(tmp_path / "home")
    workspace.store.create_shop("Corner Shop")
    made = Inviting(workspace)
    yield made
    await made.end()


async def opening(page: Inviting) -> None:
    async with asyncio.timeout(5):
        while page.now is None or page.now.state != OPENING:
            await asyncio.sleep(0.01)


async def test_a_double_click_answers_both_and_leaves_one_open(page: Inviting, windows: Windows) -> None:
    first = asyncio.create_task(page.begin(Role.MEMBER))
    await opening(page)
    second = asyncio.create_task(page.begin(Role.MEMBER))
    await asyncio.sleep(0.1)
    windows.may_open.set()
    async with asyncio.timeout(5):
        one, two = await asyncio.gather(first, second)
    assert (one.code, two.code) == ("code-1", "code-2")
    assert (windows.begun, windows.closed) == (2, 1)
    assert page.now is not None
    assert (page.now.state, page.now.code) == (OPEN, "code-2")


async def test_one_that_is_taken_back_before_it_is_open_says_so(page: Inviting, windows: Windows) -> None:
    beginning = asyncio.create_task(page.begin(Role.MEMBER))
    await opening(page)
    await page.end()
    with pytest.raises(NoInvitation, match="taken back"):
        await asyncio.wait_for(beginning, 5)
    assert page.now is not None
    assert page.now.state == ENDED
    windows.may_open.set()
    assert (await asyncio.wait_for(page.begin(Role.ADMIN), 5)).state == OPEN


async def test_one_that_cannot_be_opened_says_why(page: Inviting, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def closed(*_: object, **__: object) -> AsyncIterator[None]:
        raise OSError("no port is free")
        yield

    monkeypatch.setattr(inviting, "open_window", closed)
    with pytest.raises(OSError, match="no port is free"):
        await asyncio.wait_for(page.begin(Role.MEMBER), 5)
    assert page.now is not None
    assert (page.now.state, page.now.why) == (ENDED, "no port is free")
