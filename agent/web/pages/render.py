"""Templates and what they all need: the texts, the reader's session, times and numbers in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web
from markupsafe import Markup, escape

from agent import words
from agent.operations.workspace import utc_now
from agent.web.pages.roles import ADMIN
from agent.web.pages.sessions import Session
from agent.web.pages.texts import hint, text

HERE = Path(__file__).parent
SESSION = web.RequestKey("session", Session)
THEMES = ("system", "light", "dark")
THEME_COOKIE = "backroom-theme"
PREFIX = "/page"

_TURNING = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")

# No script but the two files here, no style but the one; nothing is loaded from anywhere else, nobody frames the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def set_up(app: web.Application) -> None:
    """Give the application its templates."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        enable_async=False,
        finalize=shown,
    )
    environment.globals.update(t=text, hint=hint, prefix=PREFIX, now=utc_now)
    environment.filters.update(
        size=words.size,
        duration=words.duration,
        moment=words.moment,
        ago=_ago,
        number=lambda number: f"{number:,}",
        time=datetime.fromisoformat,
        coded=_coded,
        tables=lambda number: _count("table", number),
        rows=lambda number: _count("row", number),
    )


def shown(value: Any) -> Any:
    """What a page says, without characters that turn the direction of the words after them: a name could read as
    another one, or swap the two names of a sentence."""
    return value.translate(_TURNING) if isinstance(value, str) else value


def _ago(at: datetime) -> str:
    number, unit = words.since(at, utc_now())
    return text("ago.now") if not number else _count(f"ago.{unit}", number)


def _count(what: str, number: int) -> str:
    """So many of it, in the words of the table: one for one, one for all others."""
    return text(f"{what}.one" if number == 1 else f"{what}.many", number=f"{number:,}")


def _coded(words: str) -> Markup:
    """The words escaped, with what stands between backticks as code: commands to type."""
    parts = words.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def render(template: str, request: web.Request, context: Mapping[str, Any], status: int = 200) -> web.Response:
    """The page, or a part of it, that nobody may keep."""
    session = request.get(SESSION)
    theme = request.cookies.get(THEME_COOKIE, THEMES[0])
    response = aiohttp_jinja2.render_template(
        template,
        request,
        {
            "csrf": session.csrf if session else "",
            "admin": session is not None and session.role == ADMIN,
            "theme": theme if theme in THEMES else THEMES[0],
            "path": request.path,
            "bare": request.path.startswith(f"{PREFIX}/setup"),
            **context,
        },
        status=status,
    )
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def to(path: str) -> web.HTTPSeeOther:
    """Go on to another page of ours. Raise it."""
    return web.HTTPSeeOther(f"{PREFIX}{path}")
