"""The page's application: who may enter, what is where. It lives beside the API, below ``/page``."""

from __future__ import annotations

import asyncio
import hmac
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from agent.home import Home
from agent.log import get_logger
from agent.operations.glance import Glance
from agent.operations.inviting import Inviting
from agent.operations.joining import Joining
from agent.operations.scheduling import Planner
from agent.operations.workspace import Workspace
from agent.web.api.errors import UNEXPECTED, NotFound, NoToken, described
from agent.web.api.security import check_place
from agent.web.pages import (
    activity,
    authority,
    backups,
    care,
    health,
    home,
    incoming,
    inviting,
    jobs,
    keeping,
    kits,
    laptops,
    moving,
    places,
    push,
    replacing,
    restoring,
    setting_up,
    telling,
)
from agent.web.pages.desk import Desk
from agent.web.pages.errors import BadTicket, NoCsrf, NoSession
from agent.web.pages.inviting import INVITING
from agent.web.pages.kits import SHELF, KitShelf
from agent.web.pages.parts import DESK, GLANCE, PLANNER, WORKSPACE
from agent.web.pages.render import HEADERS, HERE, PREFIX, SESSION, THEME_COOKIE, THEMES, render, set_up, to
from agent.web.pages.roles import ADMIN, ASSISTANT, check_role
from agent.web.pages.sessions import Sessions, cookie_name, has_csrf, port_of
from agent.web.pages.setting_up import DRAFT, JOINING, Draft
from agent.web.pages.texts import text

log = get_logger(__name__)

_SAFE = {hdrs.METH_GET, hdrs.METH_HEAD}
_COOKIE_SECONDS = 400 * 86400
_FOR_ADMINS = (setting_up, kits, inviting, replacing, care, places, health, laptops, authority, telling)
_BEFORE = ("/setup", "/leave")  # what there is before this laptop is set up, but for the later steps of that
_AFTER = tuple(f"/setup/{step}" for step in ("shop", "join", "kit", "backup", "schedule", "done"))


def make_pages(
    workspace: Workspace, token: str, assistant: str | None = None, planner: Planner | None = None
) -> web.Application:
    """The page over one data folder. ``token`` is the API's: who has it may ask for an admin's link, who has the other
    one for an ``assistant``'s (``POST /page/ticket``). ``planner`` knows the times of the schedule.
    """
    sessions = Sessions()
    app = web.Application(middlewares=[_guard(sessions, workspace.home)], client_max_size=64 * 1024)
    app[WORKSPACE] = workspace
    app[DESK] = Desk(workspace.home)
    app[GLANCE] = Glance(workspace)
    app[PLANNER] = planner
    app[DRAFT], app[SHELF] = Draft(), KitShelf()
    app[JOINING], app[INVITING] = Joining(workspace), Inviting(workspace)
    set_up(app)

    async def ticket(request: web.Request) -> web.Response:
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        held = given.strip().encode() if scheme.lower() == "bearer" else b""
        roles = [
            role
            for key, role in ((token, ADMIN), (assistant, ASSISTANT))
            if key and hmac.compare_digest(held, key.encode())
        ]
        if not roles:
            raise NoToken("The request has no valid token.")
        link = f"http://127.0.0.1:{port_of(request)}{PREFIX}/enter?ticket={sessions.ticket(roles[0])}"
        return web.json_response({"link": link}, headers={hdrs.CACHE_CONTROL: "no-store"})

    async def enter(request: web.Request) -> web.StreamResponse:
        key = sessions.enter(request.query.get("ticket", ""))
        if key is None:
            if sessions.of(request) is not None:
                raise to("/")
            raise BadTicket
        response = to("/")
        response.set_cookie(cookie_name(request), key, path=PREFIX, httponly=True, samesite="Strict")
        raise response

    async def leave(request: web.Request) -> web.StreamResponse:
        sessions.leave(request)
        raise NoSession

    app.router.add_post("/ticket", ticket)
    app.router.add_get("/enter", enter)
    app.router.add_post("/leave", leave)
    app.router.add_post("/theme", _theme)
    for part in (home, activity, push, jobs, keeping, backups, restoring, incoming, moving, *_FOR_ADMINS):
        app.add_routes(part.ROUTES)
    app.router.add_static("/static", HERE / "static")

    async def close(_: web.Application) -> None:
        await app[DESK].jobs.close()
        await app[JOINING].end()
        await app[INVITING].end()
        await app[GLANCE].close()

    app.on_shutdown.append(close)
    return app


async def _theme(request: web.Request) -> web.StreamResponse:
    form = await request.post()
    theme = str(form.get("theme", ""))
    response = to("/settings")
    if theme in THEMES:
        response.set_cookie(THEME_COOKIE, theme, path=PREFIX, httponly=True, samesite="Strict", max_age=_COOKIE_SECONDS)
    raise response


def _guard(sessions: Sessions, home: Home) -> Middleware:
    """The middleware that checks place, session and CSRF token, and makes a page of every error."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_place(request)
            path = request.path.removeprefix(PREFIX)
            if not (path in ("/ticket", "/enter") or path.startswith("/static/")):
                session = sessions.of(request)
                if session is None:
                    raise NoSession
                request[SESSION] = session
                check_role(request, session.role, PREFIX)
                early = path.startswith(_BEFORE) and not path.startswith(_AFTER)
                if not early and not await asyncio.to_thread(home.config.exists):
                    raise to("/setup")
                if request.method not in _SAFE and not await has_csrf(request, session):
                    raise NoCsrf
            response = await handler(request)
        except ConnectionResetError:
            raise  # who listened has gone
        except web.HTTPRedirection as redirect:
            redirect.headers.update(HEADERS)
            raise
        except web.HTTPNotFound:
            response = _problem(request, NotFound(text("problem.nothing", path=request.path), ""))
        except web.HTTPException as error:
            response = _problem(request, NotFound(text("problem.refused", reason=error.reason), ""), error.status)
        except Exception as error:
            response = _problem(request, error)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    return middleware


def _problem(request: web.Request, error: Exception, status: int | None = None) -> web.Response:
    """The error's own words as a page; an unexpected one goes to the log and keeps its details there."""
    found = described(error)
    if found is None:
        log.error("page failed", path=request.path, exc_info=error)
        found = 500, UNEXPECTED
    response = render("problem.html", request, {"error": found[1], "back": _came_from(request)}, status or found[0])
    if isinstance(error, NoSession) and "HX-Request" in request.headers:
        response.headers["HX-Refresh"] = "true"
    return response


def _came_from(request: web.Request) -> str:
    """The page of ours that the reader was on before, if the browser says so; else empty."""
    try:
        before = urlsplit(request.headers.get(hdrs.REFERER, ""))
    except ValueError:
        return ""
    ours = before.netloc == request.host and before.path.startswith(f"{PREFIX}/")
    again = before.path == request.path and request.method in _SAFE
    return before._replace(scheme="", netloc="", fragment="").geturl() if ours and not again else ""
