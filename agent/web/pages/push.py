"""Compare a business with another laptop, and push it there: first a look, then one button."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from agent.database.businesses import Business, find_business
from agent.engine.progress import Progress
from agent.operations.comparing import Compared, compare_business
from agent.operations.foreseeing import Foreseen, NoLooks, foresee, push_foreseen
from agent.operations.glance import Glance
from agent.operations.glance_memory import Checked
from agent.operations.look import businesses
from agent.operations.pulling import pull
from agent.operations.requests import LIFETIME, PushMode
from agent.operations.targets import other_device
from agent.operations.transfers import PushDone, push
from agent.operations.workspace import Workspace, utc_now
from agent.web.api.errors import NotFound, described
from agent.web.api.jobs import DONE
from agent.web.pages.desk import Sheet
from agent.web.pages.jobs import shown
from agent.web.pages.parts import DESK, GLANCE, field, flag, fresh, require_typed
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from certs.roster import Member
from protocol.manifest import Kind

LOOK = "done_look.html"
LOOK_SECONDS = 900.0
"""How long a look holds: after that the business is pushed as it is then."""
LARGE = 64_000_000
"""Bytes of a backup above which a look is not begun unasked."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push with the comparison after it; ``unproved`` says why there is none."""

    done: PushDone
    compared: Compared | None
    unproved: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a second look brought: the other laptop's plan, or from one that makes none a comparison. ``first``: the
    laptop's name has to be typed before the push."""

    first: bool
    foreseen: Foreseen | None
    compared: Compared | None = None


async def compared(workspace: Workspace, glance: Glance, business: str, device: str, progress: Progress) -> Compared:
    """Compare, and remember on the home page what was found."""
    node_id = other_device(workspace, device).node_id
    found = await compare_business(workspace, business, device, progress=progress)
    await glance.note(found.business.id, node_id, Checked.of(found.comparison, utc_now(), found.marks))
    return found


async def look(request: web.Request) -> web.Response:
    """Before a push: what, to whom; its part that looks over there starts by itself, unless much would have to go."""
    workspace = fresh(request)
    member = other_device(workspace, request.query.get("device", ""))
    business = find_business(await businesses(workspace), request.query.get("business", ""))
    async with workspace.history() as history:
        before = await history.transfers(
            direction="sent", mode="push", peer=member.node_id, business=business.id, limit=1
        )
        made = await history.backups(kind=Kind.BUSINESS.value, business=business.id, limit=1)
    view = await request.app[GLANCE].current()
    device = next((each for each in view.devices if each.node_id == member.node_id), None)
    row = next((each for each in view.businesses if each.id == business.id), None)
    absent = row is not None and any(c.device.node_id == member.node_id and c.state == "absent" for c in row.cells)
    context = {
        "absent": absent,
        "member": member,
        "business": business,
        "device": device,
        "last": before[0] if before else None,
        "large": made[0].size if made and made[0].size > LARGE else 0,
    }
    return render("push.html", request, context)


async def look_there(request: web.Request) -> web.StreamResponse:
    """Start the second look: the other laptop plans the push, and says what would come of it."""
    workspace, glance, desk = fresh(request), request.app[GLANCE], request.app[DESK]
    business, device = await field(request, "business"), await field(request, "device")
    member = other_device(workspace, device)
    chosen = find_business(await businesses(workspace), business)
    about = {"business": chosen, "member": member}

    async def work(progress: Progress) -> Looked:
        first = await _is_first(workspace, member)
        try:
            async with workspace.history() as history:
                return Looked(first, await foresee(workspace, history, chosen.id, member.node_id, progress=progress))
        except NoLooks:
            return Looked(first, None, await compared(workspace, glance, chosen.id, member.node_id, progress))

    sheet = next((each for each in desk.running() if each.template == LOOK and _about(each) == (chosen, member)), None)
    if sheet is None:
        title = text("push.title", business=chosen.name, device=member.name)
        again = "/push?" + urlencode({"business": chosen.id, "device": member.node_id})
        sheet = desk.start(title, LOOK, again, work, {**about, "inside": True, "again": again})
    if "HX-Request" in request.headers:
        return render("job_live.html", request, shown(sheet))
    raise to(f"/jobs/{sheet.job.id}")


def _about(sheet: Sheet) -> tuple[Any, Any]:
    return sheet.about.get("business"), sheet.about.get("member")


async def _is_first(workspace: Workspace, member: Member) -> bool:
    """Whether nothing was pushed to that laptop from here before: then its name has to be typed."""
    async with workspace.history() as history:
        return not await history.transfers(direction="sent", mode="push", peer=member.node_id, state="done", limit=1)


async def compare(request: web.Request) -> web.StreamResponse:
    """Start a comparison; the job's part alone where htmx asks for it."""
    workspace, glance = fresh(request), request.app[GLANCE]
    business, device = await field(request, "business"), await field(request, "device")
    member = other_device(workspace, device)
    chosen = find_business(await businesses(workspace), business)
    sheet = request.app[DESK].start(
        text("compare.title", business=chosen.name, device=member.name),
        "done_compare.html",
        "/",
        lambda progress: compared(workspace, glance, chosen.id, member.node_id, progress),
        {"business": chosen, "member": member},
    )
    raise to(f"/jobs/{sheet.job.id}")


async def send(request: web.Request) -> web.StreamResponse:
    """Push what was looked at, or where that is long ago the business as it is now; then both sides are compared."""
    workspace, glance, desk = fresh(request), request.app[GLANCE], request.app[DESK]
    member = other_device(workspace, await field(request, "device"))
    business = find_business(await businesses(workspace), await field(request, "business"))
    if await _is_first(workspace, member):
        await require_typed(request, member.name)
    mode: PushMode = "bundle" if await flag(request, "replace") else "newer"
    patience = LIFETIME.total_seconds()
    foreseen = await _foreseen(request, business, member)

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            done = await (
                push_foreseen(workspace, history, foreseen, mode=mode, patience=patience, progress=progress)
                if foreseen is not None
                else push(
                    workspace, history, business.id, member.node_id, mode=mode, patience=patience, progress=progress
                )
            )
        await glance.look_again(member.node_id)
        try:
            return Pushed(done, await compared(workspace, glance, business.id, member.node_id, progress))
        except Exception as error:
            # What counts is the receipt; only words of our own are shown for what went wrong after it.
            found = described(error)
            if found is None:
                raise
            return Pushed(done, None, found[1]["message"])

    sheet = desk.start(
        text("push.title", business=business.name, device=member.name),
        "done_push.html",
        "/",
        work,
        {"business": business, "member": member},
    )
    raise to(f"/jobs/{sheet.job.id}")


async def _foreseen(request: web.Request, business: Business, member: Member) -> Foreseen | None:
    """The push that the form's look has made over there, if it is of now; looks that still go on are stopped."""
    desk, now = request.app[DESK], asyncio.get_running_loop().time()
    for sheet in desk.running():
        if sheet.template == LOOK and _about(sheet) == (business, member):
            await desk.jobs.cancel(sheet.job.id)
    try:
        job = desk.jobs.get(str((await request.post()).get("look", "")))
    except NotFound:
        return None
    looked = job.result.foreseen if job.state == DONE and isinstance(job.result, Looked) else None
    if looked is None or (looked.business.id, looked.member.node_id) != (business.id, member.node_id):
        return None
    return looked if now - looked.at < LOOK_SECONDS else None


async def take(request: web.Request) -> web.StreamResponse:
    """Pull a business, or all that may leave, from there into the archive; what comes of it here is a plan to say."""
    workspace = fresh(request)
    member = other_device(workspace, await field(request, "device"))
    full = str((await request.post()).get("kind", "")) == Kind.FULL.value
    business = None if full else await field(request, "business")
    view = await request.app[GLANCE].current()
    name = next((each.name for each in view.businesses if each.id == business), business)

    async def work(progress: Progress) -> Any:
        kind = Kind.FULL if full else Kind.BUSINESS
        async with workspace.history() as history:
            return await pull(
                workspace, history, member.node_id, kind, business=business, business_name=name, progress=progress
            )

    one = text("pull.title", business=name, device=member.name)
    title = text("pull.all", device=member.name) if full else one
    sheet = request.app[DESK].start(title, "done_pull.html", "/", work)
    raise to(f"/jobs/{sheet.job.id}")


ROUTES = [
    web.get("/push", look),
    web.post("/push", send),
    web.post("/push/look", look_there),
    web.post("/compare", compare),
    web.post("/pull", take),
]
