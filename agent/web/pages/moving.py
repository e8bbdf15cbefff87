"""What is on its way between this laptop and others: how far it is, and stopping it for good."""

from __future__ import annotations

from aiohttp import web

from agent.operations import standing
from agent.web.pages.parts import fresh
from agent.web.pages.render import render, to


async def transfers(request: web.Request) -> web.Response:
    """All that is not over, pushes by commands and the schedule too; the part that moves alone where htmx asks."""
    workspace = fresh(request)
    async with workspace.history() as history:
        moving = await standing.transfers(workspace, history)
    part = "HX-Request" in request.headers
    return render("transfers_list.html" if part else "transfers.html", request, {"moving": moving})


async def cancel(request: web.Request) -> web.StreamResponse:
    """Stop one for good; what came of it is thrown away."""
    workspace = fresh(request)
    async with workspace.history() as history:
        await standing.cancel(workspace, history, request.match_info["id"])
    raise to("/transfers")


ROUTES = [
    web.get("/transfers", transfers),
    web.post("/transfers/{id}", cancel),
]
