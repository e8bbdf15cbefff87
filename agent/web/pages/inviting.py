"""Inviting a laptop: the code, large, with its time; who knocks, and the admin's yes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agent.operations.inviting import Inviting
from agent.web.pages.parts import GLANCE, field, fresh
from agent.web.pages.render import render, to
from certs.roster import Role

INVITING = web.AppKey("inviting", Inviting)


async def invite(request: web.Request) -> web.Response:
    """The form, or the invitation as it stands; the part that moves alone where htmx asks."""
    workspace = fresh(request)
    now = request.app[INVITING].now
    identity = await asyncio.to_thread(workspace.store.identity)
    shop = await asyncio.to_thread(workspace.store.shop)
    old = shop.roster.member(now.replaces) if shop and now and now.replaces else None
    context = {"now_": now, "identity": identity, "old": old}
    if "HX-Request" in request.headers:
        return render("invitation.html", request, context)
    return render("invite.html", request, {**context, "shop": shop})


async def begin(request: web.Request) -> web.StreamResponse:
    """Open an invitation. One that is open ends with this."""
    form = await request.post()
    role = Role.ADMIN if form.get("role") == Role.ADMIN.value else Role.MEMBER
    await request.app[INVITING].begin(role, str(form.get("replaces", "")) or None)
    raise to("/invite")


async def answer(request: web.Request) -> web.StreamResponse:
    """Let the laptop in that knocks, or not."""
    await request.app[INVITING].answer(await field(request, "answer") == "yes")
    await request.app[GLANCE].refresh()
    raise to("/invite")


async def end(request: web.Request) -> web.StreamResponse:
    """Take the invitation back."""
    await request.app[INVITING].end()
    raise to("/invite")


ROUTES = [
    web.get("/invite", invite),
    web.post("/invite", begin),
    web.post("/invite/answer", answer),
    web.post("/invite/end", end),
]
