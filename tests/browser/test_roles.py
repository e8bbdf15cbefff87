"""Every route of the page, held against everybody who may come: a table of routes and roles, over real sockets."""

from __future__ import annotations

import re

import pytest

from agent.operations.workspace import Workspace
from agent.web.pages.app import make_pages
from agent.web.pages.render import PREFIX
from tests.browser.test_door import Door, door

__all__ = ["door"]

OPEN = {("POST", "/ticket"), ("GET", "/enter")}
"""Those that no session is needed for: they ask for a token or a ticket themselves."""
ASSISTANT = {
    ("GET", "/"), ("GET", "/shop"), ("GET", "/events"), ("GET", "/push"), ("POST", "/push"), ("POST", "/push/look"),
    ("POST", "/compare"), ("GET", "/jobs/{id}"), ("GET", "/jobs/{id}/events"), ("POST", "/jobs/{id}/cancel"),
    ("GET", "/backups"), ("GET", "/backups/{id}"), ("GET", "/requests"), ("GET", "/activity"), ("GET", "/transfers"),
    ("GET", "/settings"), ("POST", "/theme"), ("POST", "/leave"),
}  # fmt: skip
FORGED = {
    "another host": {"Host": "evil.example"},
    "another port": {"Host": "127.0.0.1:1"},
    "another origin": {"Origin": "http://evil.example"},
    "no origin": {"Origin": "null"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
}


def routes(workspace: Workspace) -> list[tuple[str, str]]:
    """Every route of the page but its static files, as method and path."""
    found = {
        (route.method, route.resource.canonical)
        for route in make_pages(workspace, "x" * 40).router.routes()
        if route.resource is not None and not route.resource.canonical.startswith("/static")
    }
    return sorted(each for each in found if each[0] != "HEAD")


async def status(door: Door, route: tuple[str, str], csrf: str | None = None, **headers: str) -> int:
    """The answer's status; nothing of its body is read, since some never end."""
    method, path = route
    data = None if method == "GET" else {} if csrf is None else {"csrf": csrf}
    url = door.url + PREFIX + re.sub(r"\{\w+\}", "x", path)
    async with door.client.request(
        method, url, headers={"Cookie": door.cookie, **headers}, data=data, allow_redirects=False
    ) as response:
        return response.status


async def test_each_route_for_each_reader(door: Door) -> None:
    every = routes(door.workspace)
    assert set(every) >= ASSISTANT | OPEN
    guarded = [each for each in every if each not in OPEN]
    assert len(guarded) >= 55

    wrong: list[object] = []

    async def expect(who: str, each: tuple[str, str], wanted: set[int], **more: str) -> None:
        if (got := await status(door, each, **more)) not in wanted:
            wrong.append((who, each, got))

    port = door.url.rpartition(":")[2]
    for cookie in ("", f"backroom-{port}=guessed"):
        door.cookie = cookie
        for each in guarded:
            await expect(f"nobody ({cookie!r})", each, {401})
    await door.enter()
    theirs = await door.csrf()
    await door.enter()
    for each in guarded:
        for why, headers in FORGED.items():
            await expect(why, each, {403}, **headers)
        if each[0] == "GET":
            await expect("admin", each, {200, 303, 400, 404, 409})
        else:
            await expect("admin without the token", each, {403})
            await expect("admin with another session's token", each, {403}, csrf=theirs)
    await door.enter(assistant=True)
    mine = await door.csrf()
    for each in sorted(guarded, key=lambda one: one == ("POST", "/leave")):
        if each not in ASSISTANT:
            await expect("assistant", each, {403}, csrf=mine)
        elif each[0] == "GET":
            await expect("assistant", each, {200, 404, 409})
        else:
            await expect("assistant without the token", each, {403})
            if each != ("POST", "/leave"):
                await expect("assistant", each, {303, 400, 404, 409}, csrf=mine)
    assert wrong == []


async def test_the_assistants_token_is_nothing_to_the_api(door: Door) -> None:
    token = (door.workspace.home.state / "assistant-token").read_text("ascii").strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await door.ask("GET", "/api/status", headers=bearer))[0] == 401
    assert (await door.ask("POST", "/page/ticket", headers=bearer))[0] == 200
    assert (door.workspace.home.state / "assistant-token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("given", ["Bearer ", "Bearer", "Basic x", ""])
async def test_an_empty_token_is_none(door: Door, given: str) -> None:
    assert (await door.ask("POST", "/page/ticket", headers={"Authorization": given}))[0] == 401
