"""The laptops of the shop, as its admin sees them: roles, labels, limits, alarms, and shutting one out."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agent.database.errors import DatabaseError
from agent.operations.devices import devices, revoke
from agent.operations.governing import EVERYTHING, NOTHING, is_shared, resolve_clone, set_device
from agent.operations.look import businesses
from agent.operations.targets import other_device
from agent.tables.errors import TablesError
from agent.web.pages.parts import GLANCE, field, fresh, require_typed
from agent.web.pages.render import render, to
from certs.roster import Right, Role


async def laptops(request: web.Request) -> web.Response:
    """All of them. What they may do is changed only where the shop's authority is kept."""
    workspace = fresh(request)
    shop = await asyncio.to_thread(workspace.store.shop)
    seen = await devices(workspace) if shop else ()
    try:
        known = {each.id: each.name for each in await businesses(workspace)}
    except (DatabaseError, TablesError):
        known = {}
    shared = shop is not None and not shop.holds_authority and await is_shared(workspace)
    context = {"shop": shop, "seen": seen, "known": known, "rights": list(Right), "shared": shared}
    return render("laptops.html", request, context)


async def change(request: web.Request) -> web.StreamResponse:
    """Role, label and limits of one laptop."""
    workspace, form = fresh(request), await request.post()
    may: dict[Right, tuple[str, ...]] = {}
    for right in Right:
        chosen = str(form.get(f"limit-{right}", EVERYTHING))
        listed = tuple(str(each) for each in form.getall(f"may-{right}", []))
        may[right] = (EVERYTHING,) if chosen == EVERYTHING else listed or (NOTHING,)
    role = Role.ADMIN if form.get("role") == Role.ADMIN.value else Role.MEMBER
    device = request.match_info["id"]
    await set_device(workspace, device, role=role, label=str(form.get("label", "")).strip(), may=may)
    await request.app[GLANCE].refresh()
    raise to("/laptops")


async def shut_out(request: web.Request) -> web.StreamResponse:
    """Revoke one. Its name must be typed."""
    workspace = fresh(request)
    member = other_device(workspace, request.match_info["id"])
    await require_typed(request, member.name)
    await revoke(workspace, member.node_id)
    await request.app[GLANCE].refresh()
    raise to("/laptops")


async def resolve(request: web.Request) -> web.StreamResponse:
    """Settle a clone alarm, on all laptops."""
    await field(request, "resolve")
    await resolve_clone(fresh(request), request.match_info["id"])
    raise to("/laptops")


ROUTES = [
    web.get("/laptops", laptops),
    web.post("/laptops/{id}", change),
    web.post("/laptops/{id}/revoke", shut_out),
    web.post("/laptops/{id}/resolve", resolve),
]
