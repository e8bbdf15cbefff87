"""Home: businesses and laptops, live."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import hdrs, web

from agent.web.pages.desk import Sheet
from agent.web.pages.parts import DESK, GLANCE, fresh
from agent.web.pages.render import SESSION, render
from agent.web.pages.roles import ADMIN, JOBS_FOR_ASSISTANTS

_ALIVE_SECONDS = 10.0
_MOVED = b"event: shop-moved\ndata:\n\n"


async def home(request: web.Request) -> web.Response:
    """The shop at a glance."""
    view = await request.app[GLANCE].current()
    return render("home.html", request, {"view": view, "running": _running(request)})


async def shop(request: web.Request) -> web.Response:
    """The part of it that moves."""
    view = await request.app[GLANCE].current()
    return render("shop.html", request, {"view": view, "running": _running(request)})


def _running(request: web.Request) -> list[Sheet]:
    """What goes on now, as far as the reader may see it."""
    admin = request[SESSION].role == ADMIN
    return [each for each in request.app[DESK].running() if admin or each.template in JOBS_FOR_ASSISTANTS]


async def events(request: web.Request) -> web.StreamResponse:
    """An event at once, as the shop may have moved since the page was made, then whenever it is seen otherwise."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"})
    glance = request.app[GLANCE]
    before = await glance.current()
    with suppress(ConnectionResetError):  # who listened has gone
        await response.prepare(request)
        await response.write(_MOVED)
        while True:
            now = await glance.next(before, _ALIVE_SECONDS)
            if now is None:
                await response.write(b": alive\n\n")
                continue
            before = now
            await response.write(_MOVED)
    return response


async def settings(request: web.Request) -> web.Response:
    """How the page looks, and leaving it."""
    return render("settings.html", request, {"workspace": fresh(request)})


ROUTES = [
    web.get("/", home),
    web.get("/shop", shop),
    web.get("/events", events, allow_head=False),
    web.get("/settings", settings),
]
