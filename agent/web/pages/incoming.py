"""What waits for a yes on this laptop."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agent.operations.requests import BUNDLE, WAITING, Requests
from agent.web.pages.parts import GLANCE, field, fresh
from agent.web.pages.render import render, to


async def requests(request: web.Request) -> web.Response:
    """Those that wait, with what would happen, and the last that are over."""
    known = await asyncio.to_thread(Requests(fresh(request).home).all)
    return render(
        "requests.html",
        request,
        {
            "waiting": [each for each in known if each.state == WAITING],
            "over": [each for each in known if each.state != WAITING][:20],
        },
    )


async def answer(request: web.Request) -> web.StreamResponse:
    """Yes, yes for good, or no. What a yes does is exactly the plan that the request shows."""
    book = Requests(fresh(request).home)
    said, request_id = await field(request, "answer"), request.match_info["id"]
    if said == "always":
        await asyncio.to_thread(lambda: book.permit(book.get(request_id), BUNDLE))
    await asyncio.to_thread(lambda: book.answer(request_id, yes=said in ("yes", "always")))
    await request.app[GLANCE].refresh()
    raise to("/requests")


ROUTES = [web.get("/requests", requests), web.post("/requests/{id}", answer)]
