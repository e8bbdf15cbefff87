"""Compare a business with another laptop, and push it there: first a look, then one button."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from agent.database.businesses import find_business
from agent.engine.progress import Progress
from agent.operations.comparing import Compared, compare_business
from agent.operations.glance import Glance
from agent.operations.glance_memory import Checked
from agent.operations.look import businesses
from agent.operations.pulling import pull
from agent.operations.requests import LIFETIME, PushMode
from agent.operations.transfers import PushDone, other_device, push
from agent.operations.workspace import Workspace, utc_now
from agent.web.api.errors import described
from agent.web.pages.jobs import shown
from agent.web.pages.parts import DESK, GLANCE, field, flag, fresh, require_typed
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from protocol.manifest import Kind


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push with the comparison after it; ``unproved`` says why there is none."""

    done: PushDone
    compared: Compared | None
    unproved: str = ""


async def compared(workspace: Workspace, glance: Glance, business: str, device: str, progress: Progress) -> Compared:
    """Compare, and remember on the home page what was found."""
    node_id = other_device(workspace, device).node_id
    found = await compare_business(workspace, business, device, progress=progress)
    await glance.note(found.business.id, node_id, Checked.of(found.comparison, utc_now()))
    return found


async def look(request: web.Request) -> web.Response:
    """The second look before a push: what, to whom, what differs now."""
    workspace = fresh(request)
    member = other_device(workspace, request.query.get("device", ""))
    business = find_business(await businesses(workspace), request.query.get("business", ""))
    async with workspace.history() as history:
        before = await history.transfers(
            direction="sent", mode="push", peer=member.node_id, business=business.id, limit=1
        )
        known = await history.transfers(direction="sent", mode="push", peer=member.node_id, state="done", limit=1)
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
    }
    return render("push.html", request, {**context, "first": not known})


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
        {"business": chosen, "member": member, "inside": await flag(request, "inside")},
    )
    if "HX-Request" in request.headers:
        return render("job_live.html", request, shown(sheet))
    raise to(f"/jobs/{sheet.job.id}")


async def send(request: web.Request) -> web.StreamResponse:
    """Push; afterwards both sides are compared."""
    workspace, glance = fresh(request), request.app[GLANCE]
    member = other_device(workspace, await field(request, "device"))
    business = find_business(await businesses(workspace), await field(request, "business"))
    if await flag(request, "first"):
        await require_typed(request, member.name)
    mode: PushMode = "bundle" if await flag(request, "replace") else "newer"

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            done = await push(
                workspace,
                history,
                business.id,
                member.node_id,
                mode=mode,
                patience=LIFETIME.total_seconds(),
                progress=progress,
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

    sheet = request.app[DESK].start(
        text("push.title", business=business.name, device=member.name),
        "done_push.html",
        "/",
        work,
        {"business": business, "member": member},
    )
    raise to(f"/jobs/{sheet.job.id}")


async def take(request: web.Request) -> web.StreamResponse:
    """Pull a business from there into the archive; what comes of it here is a restore's plan to say."""
    workspace = fresh(request)
    member = other_device(workspace, await field(request, "device"))
    business = await field(request, "business")
    view = await request.app[GLANCE].current()
    name = next((each.name for each in view.businesses if each.id == business), business)

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await pull(workspace, history, member.node_id, Kind.BUSINESS, business=business, progress=progress)

    title = text("pull.title", business=name, device=member.name)
    sheet = request.app[DESK].start(title, "done_pull.html", "/", work)
    raise to(f"/jobs/{sheet.job.id}")


ROUTES = [web.get("/push", look), web.post("/push", send), web.post("/compare", compare), web.post("/pull", take)]
