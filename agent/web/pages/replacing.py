"""Replacing a laptop: on the admin's, everything is brought here and proved, then the new one is invited; on the new
one, it is restored. The old one is revoked in the moment in which the new one is let in."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.engine.progress import Progress
from agent.operations.devices import devices
from agent.operations.replacing import replace
from agent.operations.rescuing import rescue
from agent.operations.targets import other_device
from agent.operations.workspace import Workspace
from agent.web.pages.parts import DESK, GLANCE, field, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from certs.roster import Member


async def choose(request: web.Request) -> web.Response:
    """Which laptop is to go."""
    workspace = fresh(request)
    shop = await asyncio.to_thread(workspace.store.shop)
    seen = await devices(workspace) if shop else ()
    others = [each for each in seen if not each.this and each.member.active]
    return render("replace.html", request, {"shop": shop, "others": others})


async def bring(request: web.Request) -> web.StreamResponse:
    """Bring everything of it here, and prove that it restores."""
    workspace = fresh(request)
    old = other_device(workspace, await field(request, "device"))

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await rescue(workspace, history, old.node_id, progress=progress)

    title = text("replace.bring", device=old.name)
    raise to(f"/jobs/{request.app[DESK].start(title, 'done_rescue.html', '/replace', work).job.id}")


def replaced(workspace: Workspace) -> Member | None:
    """The laptop in whose place this one is, if any. Blocking."""
    shop = workspace.store.shop()
    own = shop.roster.member(workspace.store.identity().node_id) if shop else None
    return shop.roster.member(own.replaces) if shop and own and own.replaces else None


async def joined(request: web.Request) -> web.StreamResponse:
    """After joining: what the old laptop had comes first, where this one is in its place."""
    old = await asyncio.to_thread(replaced, fresh(request))
    raise to("/replace/restore" if old else "/setup/kit")


async def offer(request: web.Request) -> web.Response:
    """Restore what the others hold of the old laptop?"""
    old = await asyncio.to_thread(replaced, fresh(request))
    if old is None:
        raise to("/setup")
    return render("replace_restore.html", request, {"old": old})


async def restore(request: web.Request) -> web.StreamResponse:
    """Fetch and restore the newest backups of the old laptop."""
    workspace, glance = fresh(request), request.app[GLANCE]
    old = await asyncio.to_thread(replaced, workspace)
    if old is None:
        raise to("/setup")

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            done = await replace(workspace, history, old.name, progress=progress)
        await glance.changed_here(None)
        return done

    title = text("replace.restore", device=old.name)
    raise to(f"/jobs/{request.app[DESK].start(title, 'done_replaced.html', '/replace/restore', work).job.id}")


ROUTES = [
    web.get("/replace", choose),
    web.post("/replace", bring),
    web.get("/setup/joined", joined),
    web.get("/replace/restore", offer),
    web.post("/replace/restore", restore),
]
