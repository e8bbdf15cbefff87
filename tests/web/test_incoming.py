"""The page of what waits for a yes, as a browser posts its forms."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from agent.operations.requests import APPROVED, DECLINED, Requests
from agent.operations.workspace import Workspace
from tests.support.archives import workspace_at
from tests.web.test_api import Asker, serving


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "home")


async def entered(asker: Asker, browser: aiohttp.ClientSession) -> str:
    """The CSRF token of a session of the browser's own."""
    link = (await asker.json("POST", "/page/ticket"))["link"]
    async with browser.get(link) as answer:
        assert answer.status == 200
    async with browser.get(asker.url + "/page/requests") as answer:
        found = re.search(r'name="csrf" value="([^"]+)"', await answer.text())
    assert found is not None
    return found[1]


async def test_the_button_of_a_stale_page_permits_nothing(workspace: Workspace) -> None:
    book = Requests(workspace.home)
    first, second = (
        book.ask("push", key, "node-a", "laptop-a", "wants", business_id="b1", business="ABC") for key in ("t-1", "t-2")
    )
    jar = aiohttp.CookieJar(unsafe=True)
    async with serving(workspace) as asker, aiohttp.ClientSession(cookie_jar=jar) as browser:
        form = {"csrf": await entered(asker, browser), "answer": "always"}
        book.answer(first.id, yes=False)
        async with browser.post(f"{asker.url}/page/requests/{first.id}", data=form) as answer:
            assert answer.status == 409
            assert "does not wait any more" in await answer.text()
        assert (book.permissions(), book.get(first.id).state) == ((), DECLINED)
        async with browser.post(f"{asker.url}/page/requests/{second.id}", data=form) as answer:
            assert answer.status == 200
        assert book.get(second.id).state == APPROVED
        assert book.permitted("node-a", "b1", "bundle")
