"""Looking after backups from the page: the schedule, and how long backups are kept."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from agent.config import change
from agent.config_care import WEEKDAYS, Retention
from agent.operations.look import businesses
from agent.operations.scheduling import TASKS, EntrySeen, add_entry, entry_named, remove_entry, switch_entry
from agent.operations.workspace import Workspace
from agent.web.pages.parts import DESK, PLANNER, field, flag, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text

KINDS = ("full", "business", "full-device")


async def schedule(request: web.Request) -> web.Response:
    """What is done by itself, and a form for more."""
    workspace, planner = fresh(request), request.app[PLANNER]
    entries = await planner.look(workspace) if planner else _unplanned(workspace)
    shop = await asyncio.to_thread(workspace.store.shop)
    own = (await asyncio.to_thread(workspace.store.identity)).node_id
    members = [each for each in shop.roster.members if each.active and each.node_id != own] if shop else []
    context = {"entries": entries, "tasks": TASKS, "kinds": KINDS, "weekdays": WEEKDAYS, "members": members}
    return render("schedule.html", request, {**context, "businesses": await businesses(workspace)})


def _unplanned(workspace: Workspace) -> list[EntrySeen]:
    """The entries alone, where nobody knows their times."""
    return [EntrySeen(each, None, None, False, 0, None) for each in workspace.config.schedule]


async def add(request: web.Request) -> web.StreamResponse:
    """Add an entry."""
    form, task = await request.post(), await field(request, "task")
    kind, push = str(form.get("kind", "")), task == "push"
    about = push or (task == "backup" and kind == "business")
    day = str(form.get("day", ""))
    await asyncio.to_thread(
        partial(
            add_entry,
            fresh(request).home,
            name=(await field(request, "name")).strip(),
            task=task,
            at=(await field(request, "at"),),
            days=(day,) if day else (),
            kind=kind if task == "backup" else None,
            business=str(form.get("business", "")) if about else None,
            device=str(form.get("device", "")) if push else None,
            when_online=push and await flag(request, "when_online"),
        )
    )
    raise to("/schedule")


async def change_entry(request: web.Request) -> web.StreamResponse:
    """Switch an entry on or off, take it out, or do what it says now."""
    workspace, planner = fresh(request), request.app[PLANNER]
    name, act = request.match_info["name"], await field(request, "act")
    if act == "run" and planner is not None:
        title = text("schedule.running", name=entry_named(workspace, name).name)
        sheet = request.app[DESK].start(title, "done_run.html", "/schedule", lambda _: planner.run(workspace, name))
        raise to(f"/jobs/{sheet.job.id}")
    if act == "remove":
        await asyncio.to_thread(remove_entry, workspace.home, name)
    elif act in ("on", "off"):
        await asyncio.to_thread(lambda: switch_entry(workspace.home, name, on=act == "on"))
    raise to("/schedule")


async def keep(request: web.Request) -> web.StreamResponse:
    """How long backups are kept. Nothing is thrown away by this."""
    form = await request.post()
    home = fresh(request).home
    rules = {name: str(form.get(name, "")).strip() for name in Retention.model_fields}
    await asyncio.to_thread(lambda: change(home, retention=rules))
    raise to("/settings")


ROUTES = [
    web.get("/schedule", schedule),
    web.post("/schedule", add),
    web.post("/schedule/{name}", change_entry),
    web.post("/retention", keep),
]
