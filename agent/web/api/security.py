"""Who may ask: programs of this laptop's user, who can read the token. Never a page of another site."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent.log import get_logger
from agent.web.api.errors import UNEXPECTED, NotFound, NoToken, WrongPlace, described
from agent.web.api.values import answer

log = get_logger(__name__)

_NAMES = ("127.0.0.1", "localhost", "[::1]")


def load_token(path: Path) -> str:
    """The token in ``path`` (mode 0600), made at the first call. Blocking."""
    try:
        token = path.read_text(encoding="ascii").strip()
        if len(token) >= 32:
            return token
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return token


def check_place(request: web.Request) -> None:
    """Refuse names that are not this laptop's (DNS rebinding) and requests that another site's page made.

    Raises :class:`WrongPlace`.
    """
    socket = request.transport.get_extra_info("sockname") if request.transport else None
    port = socket[1] if socket else 0
    own = {f"{name}:{port}" for name in _NAMES}
    if request.headers.get("Host", "") not in own:
        raise WrongPlace("The request names another host than this laptop.")
    origin = request.headers.get("Origin")
    if origin is not None and origin not in {f"http://{name}" for name in own}:
        raise WrongPlace("The request comes from another site's page.")
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        raise WrongPlace("The request comes from another site's page.")


def guard(token: str, *, but_for: web.Application | None = None) -> Middleware:
    """The middleware that checks place and token, and turns every error into an answer.

    ``but_for`` is an application below this one that has a guard of its own.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if but_for is not None and but_for in request.match_info.apps:
            return await handler(request)
        try:
            check_place(request)
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
                raise NoToken("The request has no valid token.")
            response = await handler(request)
        except web.HTTPNotFound:
            response = problem(NotFound(f"There is no {request.path}."))
        except web.HTTPException as error:
            body = {"code": "bad-request", "message": f"{error.reason}.", "hint": NotFound.hint}
            response = answer({"error": body}, error.status)
        except Exception as error:
            response = problem(error)
        if not response.prepared:
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return middleware


def problem(error: Exception) -> web.Response:
    """An error as an answer; an unexpected one goes to the log and keeps its details there."""
    found = described(error)
    if found is None:
        log.error("request failed", exc_info=error)
        return answer({"error": UNEXPECTED}, 500)
    return answer({"error": found[1]}, found[0])
