"""Who gets in, and what every answer says to the browser: without a browser, over real sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from time import monotonic

import aiohttp
import pytest
from aiohttp.web import AbstractRoute

from agent.archive.sql import backups
from agent.config import change
from agent.operations.opening import NoPage, page_link
from agent.operations.workspace import Workspace
from agent.web.pages import sessions
from agent.web.pages.app import make_pages
from agent.web.pages.texts import TEXTS
from agent.web.serving import serving_api
from tests.support.archives import NOON, keep, workspace_at

PAGES = Path(__file__).parents[2] / "agent" / "web" / "pages"


class Door:
    """A running page and a client that keeps no cookies by itself."""

    def __init__(self, workspace: Workspace, client: aiohttp.ClientSession, port: int) -> None:
        self.workspace = workspace
        self.client = client
        self.url = f"http://127.0.0.1:{port}"
        self.cookie = ""

    async def enter(self, *, assistant: bool = False) -> SimpleCookie:
        """Go in by a fresh link."""
        link = await page_link(self.workspace.home, assistant=assistant)
        async with self.client.get(link, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers["Location"] == "/page/"
            cookies = response.cookies
        self.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
        return cookies

    async def ask(self, method: str, path: str, **more: object) -> tuple[int, str, dict[str, str]]:
        headers = {"Cookie": self.cookie, **more.pop("headers", {})}  # type: ignore[dict-item]
        async with self.client.request(
            method, self.url + path, headers=headers, allow_redirects=False, **more
        ) as response:
            return response.status, await response.text(), dict(response.headers)

    async def csrf(self) -> str:
        _, body, _ = await self.ask("GET", "/page/settings")
        found = re.search(r'name="csrf" value="([^"]+)"', body)
        assert found is not None, body
        return found[1]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    workspace = workspace_at(tmp_path / "home")
    change(workspace.home, web_port=0)
    fresh = Workspace(workspace.home)
    async with serving_api(fresh) as served, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield Door(fresh, client, served.port)


async def test_a_link_is_good_once_and_its_cookie_is_for_this_page_alone(door: Door) -> None:
    link = await page_link(door.workspace.home)
    async with door.client.get(link, allow_redirects=False) as response:
        (cookie,) = response.cookies.values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/page"
    assert cookie.key.endswith(door.url.rpartition(":")[2])
    assert cookie.value not in link
    async with door.client.get(link, allow_redirects=False) as response:
        assert response.status == 403
        assert "used already" in await response.text()
    async with door.client.get(f"{door.url}/page/enter") as response:
        assert response.status == 403


async def test_a_link_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await page_link(door.workspace.home)
    later = monotonic() + sessions.TICKET_SECONDS + 1
    monkeypatch.setattr(sessions, "monotonic", lambda: later)
    async with door.client.get(link, allow_redirects=False) as response:
        assert response.status == 403


async def test_a_session_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.enter()
    assert (await door.ask("GET", "/page/settings"))[0] == 200
    later = monotonic() + sessions.SESSION_SECONDS + 1
    monkeypatch.setattr(sessions, "monotonic", lambda: later)
    assert (await door.ask("GET", "/page/settings"))[0] == 401


@pytest.mark.parametrize(
    "path", ["/", "/shop", "/events", "/backups", "/requests", "/activity", "/settings", "/jobs/x"]
)
async def test_nothing_is_seen_without_a_session(door: Door, path: str) -> None:
    door.cookie = f"backroom-{door.url.rpartition(':')[2]}=guessed"
    status, body, headers = await door.ask("GET", f"/page{path}")
    assert status == 401
    assert "backroom open" in body
    assert "laptop-office-001" not in body
    assert "HX-Refresh" not in headers
    assert (await door.ask("GET", f"/page{path}", headers={"HX-Request": "true"}))[2]["HX-Refresh"] == "true"


async def test_a_link_is_for_those_with_the_token(door: Door) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        assert (await door.ask("POST", "/page/ticket", headers=headers))[0] == 401
    await door.enter()
    assert (await door.ask("POST", "/page/ticket"))[0] == 401
    assert (await door.ask("GET", "/api/status"))[0] == 401  # the page's session is nothing to the API


def changes(route: AbstractRoute) -> bool:
    """Whether the route does more than show."""
    return route.method not in ("GET", "HEAD")


async def test_every_change_needs_the_sessions_own_csrf_token(door: Door) -> None:
    await door.enter()
    other = await door.csrf()
    await door.enter()
    right = await door.csrf()
    assert right != other
    resources = {
        route.resource.canonical for route in make_pages(door.workspace, "x").router.routes() if changes(route)
    }
    routes = sorted(re.sub(r"\{\w+\}", "x", each) for each in resources - {"/ticket"})
    assert {"/push/look", "/backups/import", "/backups/x/trash", "/requests/x"} <= set(routes)
    for path in routes:
        for data in ({}, {"csrf": other}, {"csrf": ""}):
            status, body, _ = await door.ask("POST", f"/page{path}", data=data)
            assert (status, "did not come from this page" in body) == (403, True), path
    status, _, headers = await door.ask("POST", "/page/theme", data={"csrf": right, "theme": "dark"})
    assert status == 303
    assert "backroom-theme=dark" in headers["Set-Cookie"]
    assert (await door.ask("POST", "/page/theme", headers={"X-CSRF-Token": right}, data={"theme": "light"}))[0] == 303
    assert (await door.ask("POST", "/page/leave", data={"csrf": right}))[0] == 401
    assert (await door.ask("GET", "/page/settings"))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_no_other_site_and_no_rebinding(door: Door, headers: dict[str, str]) -> None:
    await door.enter()
    csrf = await door.csrf()
    assert (await door.ask("GET", "/page/", headers=headers))[0] == 403
    assert (await door.ask("POST", "/page/theme", headers=headers, data={"csrf": csrf, "theme": "dark"}))[0] == 403
    assert (await door.ask("GET", "/page/static/page.js", headers=headers))[0] == 403


async def test_what_every_answer_says_to_the_browser(door: Door) -> None:
    await door.enter()
    for path in ("/", "/settings", "/nothing-here", "/backups/unknown", "/static/page.css", "/static/htmx.min.js"):
        status, body, headers = await door.ask("GET", f"/page{path}")
        assert status in (200, 404), path
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        if not path.startswith("/static"):
            assert headers["Cache-Control"] == "no-store"
            assert "<style" not in body
            assert not re.search(r'<script(?! src="/page/static/)|\son[a-z]+=|\sstyle=', body)
            assert not re.search(
                r"""=["']?https?:|url\(""", body
            )  # nothing is loaded from elsewhere, nobody sent there


async def test_an_unreachable_database_is_said_not_thrown(door: Door) -> None:
    await door.enter()
    status, body, _ = await door.ask("GET", "/page/")
    assert status == 200
    assert "in no shop yet" in body
    assert 'class="note bad"' in body


async def test_a_plan_that_is_gone_is_not_applied(door: Door) -> None:
    await door.enter()
    for path in ("/restores", "/undo"):
        status, body, _ = await door.ask("POST", f"/page{path}", data={"csrf": await door.csrf(), "plan": "x"})
        assert (status, "Make the plan again" in body) == (409, True)


async def test_without_an_agent_there_is_no_page(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    with pytest.raises(NoPage, match="does not run"):
        await page_link(workspace.home)
    await asyncio.to_thread((workspace.home.state / "api-port").write_text, "9\n")
    await asyncio.to_thread((workspace.home.state / "api-token").write_text, "x" * 40)
    with pytest.raises(NoPage, match="does not answer"):
        await page_link(workspace.home)


async def test_ten_thousand_backups_are_searched_and_paged(door: Door) -> None:
    async with door.workspace.history() as history:
        one = await keep(door.workspace, history, NOON)
        many = [
            replace(
                one,
                id=f"id-{n:05}",
                business_name=f"Shop {'abcdefg'[n % 7]}zz",
                created_at=NOON - timedelta(minutes=n),
            )
            for n in range(1, 10_001)
        ]
        await history._database.run(
            lambda connection: [connection.execute(backups.insert(each)) for each in many], write=True
        )
    await door.enter()
    part = {"HX-Request": "true"}

    async def rows(query: str) -> tuple[int, str]:
        began = monotonic()
        status, body, _ = await door.ask("GET", f"/page/backups?{query}", headers=part)
        assert (status, monotonic() - began < 2) == (200, True)
        return body.count('<th scope="row">'), body

    assert (await rows(""))[0] == 50
    found, body = await rows("q=shop+dZZ+OFFICE&page=28")
    assert (found, "Older" in body, "Newer" in body) == (29, False, True)
    assert "Shop ezz" not in body
    assert (await rows("q=100%25"))[0] == 0
    assert (await rows("kind=business-specific"))[0] == 0
    assert (await rows("kind=nonsense&page=x"))[0] == 50


def test_every_text_that_a_template_names_is_there() -> None:
    sources = [path.read_text("utf-8") for path in PAGES.rglob("*") if path.suffix in (".html", ".py")]
    named = {key for source in sources for key in re.findall(r"\b(?:t|text)\(\s*[\"']([a-z.-]+)[\"']\s*[,)]", source)}
    assert len(named) > 100
    assert named <= TEXTS.keys()
