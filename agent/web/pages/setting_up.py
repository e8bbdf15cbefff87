"""Set-up on first start: the platform's database, this laptop's name, its shop, then what keeps it safe.

Every step is a page of its own, and nothing is written before the database was looked at. The address of the database
is taken from a file or typed; it is never shown again, and stays in the agent's memory until the name is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.engine.backup import BackupRequest
from agent.engine.progress import Progress
from agent.operations.backups import make_backup
from agent.operations.joining import Joining
from agent.operations.platform_env import Found, NoAddress, address_in, lying_about, where
from agent.operations.scheduling import add_entry, suggested
from agent.operations.setup import Looked, default_name, look_at, set_up
from agent.operations.shops import create_shop
from agent.web.pages.parts import DESK, GLANCE, field, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from certs.words import WORDS
from protocol.manifest import Kind

STEPS = ("database", "name", "shop", "kit", "backup", "schedule")
CODE_FIELDS = ("number", "first", "second", "third")


@dataclass(slots=True)
class Draft:
    """What set-up knows before it is written: addresses that lie about, the one that was looked at."""

    found: tuple[Found, ...] = ()
    url: str | None = attribute(default=None, repr=False)
    looked: Looked | None = None


DRAFT = web.AppKey("draft", Draft)
JOINING = web.AppKey("joining", Joining)


def step(name: str, request: web.Request, context: Mapping[str, Any]) -> web.Response:
    """A page of set-up, with where one is in it."""
    steps = {"steps": STEPS, "step": STEPS.index(name) if name in STEPS else len(STEPS)}
    return render(f"setup_{name}.html", request, {**steps, **context})


async def begin(request: web.Request) -> web.StreamResponse:
    """The first step that is not done."""
    workspace = fresh(request)
    if not await asyncio.to_thread(workspace.home.config.exists):
        raise to("/setup/database")
    if await asyncio.to_thread(workspace.store.shop) is None:
        raise to("/setup/shop")
    raise to("/setup/kit")


async def database(request: web.Request) -> web.Response:
    """Where is the platform's database?"""
    draft = request.app[DRAFT]
    draft.found = await asyncio.to_thread(lying_about, (Path.cwd(), Path.home()))
    return step("database", request, {"found": [(each.file, _where(each.url)) for each in draft.found]})


def _where(url: str) -> str:
    """Database and server in words."""
    database, server = where(url)
    here, some = text("setup.database.here"), text("setup.database.some")
    return text("setup.database.at", database=database or some, server=server or here)


async def choose_database(request: web.Request) -> web.StreamResponse:
    """Look at the database that was chosen, with the rights of its user."""
    draft = request.app[DRAFT]
    chosen = await field(request, "choice")
    if chosen.isdecimal() and int(chosen) < len(draft.found):
        url = draft.found[int(chosen)].url
    elif chosen == "file":
        place = (await field(request, "file")).strip()
        url = (await asyncio.to_thread(lambda: address_in(Path(place).expanduser()))).url
    elif chosen == "address":
        url = (await field(request, "address")).strip()
    else:
        raise NoAddress(text("setup.database.none"))
    draft.looked = await look_at(url)
    draft.url = url
    raise to("/setup/name")


async def name(request: web.Request) -> web.Response:
    """What was found in the database, and what this laptop is to be called."""
    draft = request.app[DRAFT]
    if draft.url is None or draft.looked is None:
        raise to("/setup/database")
    return step("name", request, {"looked": draft.looked, "where": _where(draft.url), "name": default_name()})


async def choose_name(request: web.Request) -> web.StreamResponse:
    """Write the settings; from here on the agent goes on by itself."""
    draft = request.app[DRAFT]
    if draft.url is None:
        raise to("/setup/database")
    await set_up(fresh(request).home, database=draft.url, name=(await field(request, "name")).strip())
    draft.url = draft.looked = None
    raise to("/setup/shop")


async def shop(request: web.Request) -> web.Response:
    """A new shop, or one that there is."""
    workspace = fresh(request)
    if await asyncio.to_thread(workspace.store.shop) is not None:
        raise to("/setup/kit")
    return step("shop", request, {"name": workspace.config.device_name(), "words": WORDS, "fields": CODE_FIELDS})


async def found_shop(request: web.Request) -> web.StreamResponse:
    """Found the shop, with this laptop as its admin."""
    workspace, wanted = fresh(request), (await field(request, "shop")).strip()
    await asyncio.to_thread(create_shop, workspace, wanted)
    await request.app[GLANCE].refresh()
    raise to("/setup/kit")


async def join(request: web.Request) -> web.StreamResponse:
    """Look for the invitation of the code. The whole code may also be in its first field."""
    form = await request.post()
    code = " ".join(str(form.get(each, "")) for each in CODE_FIELDS)
    address = str(form.get("address", "")).strip()
    await request.app[JOINING].begin(code, address or None)
    raise to("/setup/join")


async def joining(request: web.Request) -> web.StreamResponse:
    """How joining goes; the part that moves alone where htmx asks."""
    now = request.app[JOINING].now
    if now is None:
        raise to("/setup")
    identity = await asyncio.to_thread(fresh(request).store.identity)
    if "HX-Request" in request.headers:
        return render("joining.html", request, {"join": now, "identity": identity})
    return step("shop", request, {"join": now, "identity": identity})


async def answer_inviter(request: web.Request) -> web.StreamResponse:
    """This person's word on who invites."""
    await request.app[JOINING].answer(await field(request, "answer") == "yes")
    raise to("/setup/join")


async def backup(request: web.Request) -> web.Response:
    """The first backup."""
    return step("backup", request, {})


async def first_backup(request: web.Request) -> web.StreamResponse:
    """Make it: everything that may go to another laptop."""
    workspace = fresh(request)

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await make_backup(workspace, history, BackupRequest(Kind.FULL, None), progress=progress)

    sheet = request.app[DESK].start(text("setup.backup"), "done_first_backup.html", "/setup/backup", work)
    raise to(f"/jobs/{sheet.job.id}")


async def schedule(request: web.Request) -> web.Response:
    """What is to be done by itself."""
    have = {each.name for each in fresh(request).config.schedule}
    return step("schedule", request, {"entries": [each for each in suggested() if each["name"] not in have]})


async def choose_schedule(request: web.Request) -> web.StreamResponse:
    """Keep what is ticked."""
    home, ticked = fresh(request).home, (await request.post()).getall("entry", [])
    for each in suggested():
        if each["name"] in ticked:
            await asyncio.to_thread(partial(add_entry, home, **each))
    raise to("/setup/done")


async def done(request: web.Request) -> web.Response:
    """What comes now."""
    found = await asyncio.to_thread(fresh(request).store.shop)
    return step("done", request, {"inviting": found is not None and found.holds_authority})


ROUTES = [
    web.get("/setup", begin),
    web.get("/setup/database", database),
    web.post("/setup/database", choose_database),
    web.get("/setup/name", name),
    web.post("/setup/name", choose_name),
    web.get("/setup/shop", shop),
    web.post("/setup/shop", found_shop),
    web.get("/setup/join", joining),
    web.post("/setup/join", join),
    web.post("/setup/join/answer", answer_inviter),
    web.get("/setup/backup", backup),
    web.post("/setup/backup", first_backup),
    web.get("/setup/schedule", schedule),
    web.post("/setup/schedule", choose_schedule),
    web.get("/setup/done", done),
]
