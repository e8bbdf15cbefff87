"""What waits for a yes on this laptop."""

from __future__ import annotations

import asyncio

from aiohttp import web

from agent.operations.requests import BUNDLE, WAITING, Requests
from agent.web.pages.parts import GLANCE, field, fresh
from agent.web.pages.render import render, to


async def requests(request: web.Request) -> web.Response:
    """Those that wait, with what would happen, what is permitted for good, and the last that are over.

    The list never moves under the pointer: where others wait by now than those shown, only that is said.
    """
    book = Requests(fresh(request).home)
    known = await asyncio.to_thread(book.all)
    waiting = [each for each in reversed(known) if each.state == WAITING]
    ids = ",".join(each.id for each in waiting)
    if "HX-Request" in request.headers:
        return render("requests_news.html", request, {"news": ids != request.query.get("known", "")})
    context = {
        "waiting": waiting,
        "ids": ids,
        "over": [each for each in known if each.state != WAITING][:20],
        "permissions": await asyncio.to_thread(book.permissions),
    }
    return render("requests.html", request, context)


async def answer(request: web.Request) -> web.StreamResponse:
    """Yes, yes for good, or no. What a yes does is exactly the plan that the request shows."""
    book = Requests(fresh(request).home)
    said, request_id = await field(request, "answer"), request.match_info["id"]
    always = BUNDLE if said == "always" else None
    await asyncio.to_thread(lambda: book.answer(request_id, yes=said in ("yes", "always"), always=always))
    await request.app[GLANCE].refresh()
    raise to("/requests")


async def forget(request: web.Request) -> web.StreamResponse:
    """Take a standing permission back: from now on that laptop's pushes are asked about again."""
    book = Requests(fresh(request).home)
    node_id, business_id = await field(request, "node"), await field(request, "business")
    await asyncio.to_thread(book.forbid, node_id, business_id)
    raise to("/requests")


ROUTES = [web.get("/requests", requests), web.post("/requests/{id}", answer), web.post("/permissions/forget", forget)]
