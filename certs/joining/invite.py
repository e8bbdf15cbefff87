"""The inviting side of a join: one window with one code, on a laptop that holds the shop's authority."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from certs import keys
from certs.authority import Membership
from certs.codes import Code
from certs.errors import (
    JoinDeclined,
    JoinError,
    NoWindow,
    OutOfTurn,
    TrustError,
    WindowClosed,
    WrongCode,
)
from certs.identity import Identity, check_name
from certs.joining import exchange, messages
from certs.joining.exchange import Spake, Transcript
from certs.keys import load_spki, node_id_of_key, short_id
from certs.wire import pack, unpack

LIFETIME = 5 * 60.0
MAX_WRONG_CODES = 3
# Started and not yet confirmed exchanges that are remembered; the oldest makes room.
MAX_STARTED = 16

Issue = Callable[[str, bytes], Membership]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A device that knows the code and has proved its key: what the admin says yes or no to."""

    session: bytes = field(repr=False)
    name: str
    node_id: str
    public_key: bytes = field(repr=False)

    @property
    def short_id(self) -> str:
        """The node ID for people; the joining laptop shows the same."""
        return short_id(self.node_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do after a message: send `data` as its reply, or, where `ask` is set, ask the admin and call `decide`.

    `error` is why the other side was refused (for the log; `data` tells the other side). `joined` is the device that
    has just become part of the shop.
    """

    data: bytes = field(default=b"", repr=False)
    ask: JoinRequest | None = None
    joined: JoinRequest | None = None
    error: TrustError | None = None


@dataclass(slots=True)
class _Session:
    """One exchange, from its start to its last reply."""

    token: bytes
    joiner_key: bytes
    shared: bytes
    transcript: Transcript
    step: str = "start"
    until: float = 0.0
    request: JoinRequest | None = None
    last: tuple[bytes, bytes] | None = None


class InviteSide:
    """An open invitation. `issue(name, public_key)` makes the device part of the shop, `clock` counts seconds.

    The window is open for `LIFETIME` seconds, takes one device, and closes at the third wrong code. A device that has
    proved the code has another `LIFETIME` to finish, which is the admin's time to answer.
    """

    def __init__(
        self,
        code: Code,
        identity: Identity,
        shop_name: str,
        authority: bytes,
        issue: Issue,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.code = code
        self.wrong_codes = 0
        self._identity = identity
        self._shop_name = shop_name
        self._authority = authority
        self._issue = issue
        self._clock = clock
        self._until = clock() + LIFETIME
        self._closed: str | None = None
        self._taken: bytes | None = None
        self._sessions: dict[bytes, _Session] = {}
        self._guard = threading.Lock()

    @property
    def open(self) -> bool:
        """True while a device may still start or confirm with the code."""
        return self._why_closed() is None

    @property
    def seconds_left(self) -> float:
        """How long the code can still be used."""
        return max(0.0, self._until - self._clock()) if self.open else 0.0

    def close(self) -> None:
        """End the invitation now, whatever is under way."""
        with self._guard:
            self._closed = "it was cancelled"
            self._sessions.clear()

    def receive(self, data: bytes) -> Answer:
        """Take one request of a joining device. Never raises for what the other side sent: see `Answer`.

        A request that is repeated because its reply was lost gets the same reply again.
        """
        with self._guard:
            try:
                message = messages.read_request(data)
                return self._steps[message["step"]](self, message, data)
            except TrustError as error:
                return Answer(messages.write_error(error), error=error)

    def decide(self, request: JoinRequest, approve: bool) -> Answer:
        """The admin's answer to `Answer.ask`: on yes the device becomes part of the shop and the reply brings it in."""
        with self._guard:
            try:
                session = self._confirmed(request.session)
                if session.step != "asked" or session.request != request or session.last is None:
                    raise OutOfTurn("This join waits for no answer.")
                return self._decide(session, request, approve, session.last[0])
            except TrustError as error:
                return Answer(messages.write_error(error), error=error)

    def _decide(self, session: _Session, request: JoinRequest, approve: bool, asked: bytes) -> Answer:
        error = None if approve else JoinDeclined(f"{request.name} ({request.short_id}) was declined.")
        if approve:
            membership = self._issue(request.name, request.public_key)
            plain = pack({"certificate": membership.certificate, "roster": membership.roster})
        else:
            plain = pack({"declined": True})
        session.step = "done"
        sealed = exchange.seal(session.shared, session.transcript.digest, b"membership", plain)
        reply = pack({"step": "enrol", "sealed": sealed})
        session.last = (asked, reply)
        return Answer(reply, joined=request if approve else None, error=error)

    def _start(self, message: dict[str, Any], data: bytes) -> Answer:
        if message["window"] != self.code.window:
            raise NoWindow(f"No invitation with the number {message['window']} is open here.")
        self._require_open()
        if message["format"] != messages.FORMAT:
            raise JoinError(
                f"The joining laptop speaks format {message['format']} of joining, this one {messages.FORMAT}.",
                hint="Install the same version of Backroom on both laptops.",
            )
        load_spki(message["key"])
        own_key = self._identity.public_key
        if message["key"] == own_key:
            raise JoinError("A laptop cannot join itself.", hint="Run `backroom join` on the other laptop.")
        spake = Spake(self.code, joiner=False)
        shared = spake.finish(message["spake"], message["key"], own_key)
        token = secrets.token_bytes(16)
        reply = pack({"step": "start", "session": token, "key": own_key, "spake": spake.message})
        session = _Session(token, message["key"], shared, Transcript())
        session.transcript.add(data)
        session.transcript.add(reply)
        while len(self._sessions) >= MAX_STARTED:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[token] = session
        return Answer(reply)

    def _confirm(self, message: dict[str, Any], data: bytes) -> Answer:
        session = self._session(message["session"])
        if session.last is not None and session.last[0] == data:
            return Answer(session.last[1])
        self._require_open()
        if session.step != "start":
            raise OutOfTurn("This join was confirmed before.")
        try:
            exchange.check_proof(session.shared, session.transcript.digest, b"joiner", message["proof"])
        except WrongCode:
            self._count_wrong_code(session)
            raise
        self._taken = session.token
        self._sessions = {session.token: session}
        session.step, session.until = "confirmed", self._clock() + LIFETIME
        session.transcript.add(data)
        digest = session.transcript.digest
        about = {
            "name": self._identity.name,
            "shop_name": self._shop_name,
            "authority": self._authority,
            "signature": self._identity.sign(exchange.PROTOCOL + b" inviter\x00" + digest),
        }
        proof = exchange.prove(session.shared, digest, b"inviter")
        sealed = exchange.seal(session.shared, digest, b"inviter", pack(about))
        reply = pack({"step": "confirm", "proof": proof, "sealed": sealed})
        session.transcript.add(reply)
        session.last = (data, reply)
        return Answer(reply)

    def _enrol(self, message: dict[str, Any], data: bytes) -> Answer:
        session = self._confirmed(message["session"])
        if session.step != "confirmed":
            if session.last is None or session.last[0] != data:
                raise OutOfTurn("This join was asked for before.")
            return Answer(session.last[1]) if session.step == "done" else Answer(ask=session.request)
        digest = session.transcript.digest
        plain = exchange.unseal(session.shared, digest, b"joiner", message["sealed"])
        about = unpack(plain, messages.JOINER, what="The join request", limit=messages.MAX_MESSAGE)
        name = check_name(about["name"])
        key = load_spki(session.joiner_key)
        keys.verify(key, about["signature"], exchange.PROTOCOL + b" joiner\x00" + digest, what="the join request")
        session.transcript.add(data)
        session.step, session.last = "asked", (data, b"")
        session.request = JoinRequest(session.token, name, node_id_of_key(session.joiner_key), session.joiner_key)
        return Answer(ask=session.request)

    def _session(self, token: bytes) -> _Session:
        session = self._sessions.get(token)
        if session is None:
            self._require_open()
            raise OutOfTurn("This join is not known here.")
        return session

    def _confirmed(self, token: bytes) -> _Session:
        session = self._session(token)
        if session.token != self._taken:
            raise OutOfTurn("This join has not proved its code.")
        if self._clock() > session.until:
            raise WindowClosed("The join was not finished in time.")
        return session

    def _count_wrong_code(self, session: _Session) -> None:
        del self._sessions[session.token]
        self.wrong_codes += 1
        if self.wrong_codes >= MAX_WRONG_CODES:
            self._closed = f"{MAX_WRONG_CODES} wrong codes were tried"
            self._sessions.clear()

    def _why_closed(self) -> str | None:
        if self._closed is not None:
            return self._closed
        if self._taken is not None:
            return "its code was used"
        return "its time ran out" if self._clock() > self._until else None

    def _require_open(self) -> None:
        reason = self._why_closed()
        if reason is not None:
            raise WindowClosed(f"The invitation is over: {reason}.")

    _steps = {"start": _start, "confirm": _confirm, "enrol": _enrol}  # noqa: RUF012
