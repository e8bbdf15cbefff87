"""Who may see the page: whoever comes with a one-time link, which `backroom open` fetches with one of the two tokens.

The token decides what one may do there (``roles``). The link's ticket is good once and for a short time; it becomes a
session, whose key is in a cookie that no script can read and no other site's request carries. Sessions live in the
agent's memory and end with it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic

from aiohttp import web

TICKET_SECONDS = 300.0
SESSION_SECONDS = 12 * 3600.0
_MOST_TICKETS = 20
_MOST_SESSIONS = 50
FIELD, HEADER = "csrf", "X-CSRF-Token"


@dataclass(slots=True)
class Session:
    """One browser. ``csrf`` must come with everything that changes something; ``used`` is a monotonic time; ``role`` is
    an admin's or an assistant's."""

    csrf: str
    used: float
    role: str


class Sessions:
    """Tickets and sessions of one agent. Only digests of their keys are kept."""

    def __init__(self) -> None:
        self._tickets: dict[bytes, tuple[float, str]] = {}
        self._sessions: dict[bytes, Session] = {}

    def ticket(self, role: str) -> str:
        """A new ticket for that role; the oldest of too many is no longer good."""
        key = secrets.token_urlsafe(32)
        self._tickets[_digest(key)] = (monotonic() + TICKET_SECONDS, role)
        while len(self._tickets) > _MOST_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        return key

    def enter(self, ticket: str) -> str | None:
        """A session's key for a ticket, which is used up by this; None where the ticket is not good."""
        until, role = self._tickets.pop(_digest(ticket), (0.0, ""))
        if not role or monotonic() > until:
            return None
        key = secrets.token_urlsafe(32)
        self._sessions[_digest(key)] = Session(secrets.token_urlsafe(32), monotonic(), role)
        while len(self._sessions) > _MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return key

    def of(self, request: web.Request) -> Session | None:
        """The session that the request's cookie names; one that nobody used for long has ended."""
        key = _digest(request.cookies.get(cookie_name(request), ""))
        found = self._sessions.get(key)
        if found is None:
            return None
        now = monotonic()
        if now - found.used > SESSION_SECONDS:
            del self._sessions[key]
            return None
        found.used = now
        return found

    def leave(self, request: web.Request) -> None:
        """End the request's session."""
        self._sessions.pop(_digest(request.cookies.get(cookie_name(request), "")), None)


def cookie_name(request: web.Request) -> str:
    """Cookies do not tell ports apart: two agents on one machine need two names."""
    return f"backroom-{port_of(request)}"


def port_of(request: web.Request) -> int:
    """The port that the request came in by."""
    socket = request.transport.get_extra_info("sockname") if request.transport else None
    return int(socket[1]) if socket else 0


async def has_csrf(request: web.Request, session: Session) -> bool:
    """Whether the request carries its session's token, in the header or in the form."""
    given = request.headers.get(HEADER)
    if given is None:
        given = str((await request.post()).get(FIELD, ""))
    return hmac.compare_digest(given.encode(), session.csrf.encode())


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
