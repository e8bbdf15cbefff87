"""Looking after backups from the page: the schedule, how long backups are kept, and the places that they go to."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from agent.config import change
from agent.config_care import WEEKDAYS, Retention
from agent.config_delivery import DeliverySettings
from agent.engine.progress import Progress
from agent.operations import deliveries
from agent.operations.look import businesses
from agent.operations.scheduling import TASKS, EntrySeen, add_entry, entry_named, remove_entry, switch_entry
from agent.operations.workspace import Workspace
from agent.web.pages.errors import BadField
from agent.web.pages.parts import DESK, PLANNER, field, flag, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text

KINDS = ("full", "business", "full-device")
PLACES = ("folder", "smb", "email", "cloud")
_FIELDS = ("path", "url", "user", "password", "server", "sender", "to")


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


async def places(request: web.Request) -> web.Response:
    """Where backups are delivered to, and what waits."""
    workspace = fresh(request)
    waiting = await asyncio.to_thread(deliveries.outbox(workspace).jobs)
    listed = [each.public() for each in workspace.config.delivery]
    return render("deliveries.html", request, {"places": listed, "waiting": waiting, "kinds": PLACES})


async def add_place(request: web.Request) -> web.StreamResponse:
    """Keep a place in the settings. Its password is written there and never shown again."""
    form = await request.post()
    values: dict[str, Any] = {name: str(form.get(name, "")).strip() for name in _FIELDS}
    given = {name: value for name, value in values.items() if value}
    try:
        given |= {"name": (await field(request, "name")).strip(), "kind": await field(request, "kind")}
        settings = DeliverySettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadField(where, str(first["msg"]).removeprefix("Value error, ")) from None
    await asyncio.to_thread(deliveries.add_place, fresh(request), settings)
    raise to("/deliveries")


async def change_place(request: web.Request) -> web.StreamResponse:
    """Try a place, or take it out of the settings."""
    workspace, name = fresh(request), request.match_info["name"]
    if await field(request, "act") == "remove":
        await asyncio.to_thread(deliveries.remove_place, workspace, name)
        raise to("/deliveries")

    async def work(progress: Progress) -> str:
        return await deliveries.try_place(workspace, name)

    sheet = request.app[DESK].start(text("deliveries.testing", name=name), "done_test.html", "/deliveries", work)
    raise to(f"/jobs/{sheet.job.id}")


async def change_waiting(request: web.Request) -> web.StreamResponse:
    """Try a waiting delivery at once, or take it out of the queue."""
    workspace, job_id = fresh(request), request.match_info["id"]
    act = deliveries.drop if await field(request, "act") == "drop" else deliveries.retry
    await act(workspace, job_id)
    raise to("/deliveries")


ROUTES = [
    web.get("/schedule", schedule),
    web.post("/schedule", add),
    web.post("/schedule/{name}", change_entry),
    web.post("/retention", keep),
    web.get("/deliveries", places),
    web.post("/deliveries", add_place),
    web.post("/deliveries/{name}", change_place),
    web.post("/queue/{id}", change_waiting),
]
