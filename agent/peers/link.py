"""One peer at one address: HTTPS with both certificates, and every failure turned into a ``PeerError``.

The address is dialled as it is, while TLS asks for ``<node ID>.backroom``: OpenSSL refuses a server with another
device's certificate within the handshake, and before each request the certificate is checked again, against the
roster as it is then.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from agent.aiohttp_lean import aiohttp
from agent.log import get_logger
from agent.peers import http
from agent.peers.address import Address
from agent.peers.errors import BadAnswer, Interrupted, NotTrusted, PeerError, Refused, TooOld, Unreachable, WrongDevice
from agent.peers.handshake import attempt, note_failure
from agent.peers.limits import DEFAULT_CLIENT_LIMITS, ClientLimits
from certs.errors import HandshakeFailed, TrustError
from certs.identity import Identity
from certs.keys import server_name
from certs.roster import Member
from certs.store import Store
from certs.tls import authenticate, client_context, explain
from protocol.errors import MessageError
from protocol.messages import PROTOCOL_VERSION, Hello, Message, Problem

log = get_logger(__name__)

T = TypeVar("T")

MAX_ANSWER = 4 << 20


class Link:
    """A peer at an address. Use as ``async with Link(...) as link``; nothing is sent before it is asked for.

    ``node_id`` is who must answer there; with None anyone of the shop may, and ``member`` says who did.
    Without ``dates`` its certificate may have ended (see ``peers.trusting``); ``instance`` is shown with every request.
    """

    def __init__(
        self,
        store: Store,
        address: Address,
        node_id: str | None,
        limits: ClientLimits = DEFAULT_CLIENT_LIMITS,
        *,
        instance: str = "",
        dates: bool = True,
    ) -> None:
        self.address = address
        self.node_id = node_id
        self.member: Member | None = None
        self._store = store
        self._limits = limits
        self._instance = instance
        self._dates = dates
        self._session: aiohttp.ClientSession | None = None
        self._proven = False

    async def __aenter__(self) -> Link:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Load certificate and key. Raises ``NotTrusted`` where this laptop has no shop, or shut that device out."""
        if self._session is not None:
            return
        try:
            context, identity = await asyncio.to_thread(_prepared, self._store, self.node_id is not None)
            if self.node_id is not None:
                self._store.roster().require(self.node_id)
        except TrustError as error:
            raise NotTrusted.of(error) from error
        self._session = aiohttp.ClientSession(
            connector=_Connector(self, context, resolver=_Resolver(self.address.host), limit=4, ttl_dns_cache=None),
            headers={http.NODE_HEADER: identity.node_id, http.INSTANCE_HEADER: self._instance},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def who(self) -> str:
        """The peer for messages: name if known, and address."""
        member = self.member
        if member is None and self.node_id is not None:
            try:
                member = self._store.roster().member(self.node_id)
            except TrustError:
                member = None
        return f"{member.name} at {self.address}" if member is not None else f"the laptop at {self.address}"

    async def hello(self) -> Hello:
        """Prove who is there. Raises ``WrongDevice``, ``TooOld`` and what ``call`` raises."""
        try:
            hello = await self.read(Hello.decode, "GET", "/v1/hello", seconds=self._limits.connect_seconds * 2)
        except Refused as error:
            if error.status == 404:
                raise TooOld(f"{self.who} does not speak version {PROTOCOL_VERSION} of the protocol.") from error
            raise
        if PROTOCOL_VERSION not in hello.versions:
            theirs = ", ".join(map(str, hello.versions))
            raise TooOld(f"{self.who} speaks version {theirs} of the protocol; this laptop speaks {PROTOCOL_VERSION}.")
        if self.member is not None and hello.node_id != self.member.node_id:
            raise WrongDevice(f"{self.who} calls itself {hello.node_id}, which is not the ID of its certificate.")
        return hello

    async def read(self, decode: Callable[[bytes], T], method: str, path: str, **options: Any) -> T:
        """``call``, and the answer decoded as a message."""
        data = await self.call(method, path, **options)
        try:
            return await asyncio.to_thread(decode, data)
        except MessageError as error:
            raise BadAnswer(f"{self.who} sent an answer that cannot be read: {error}") from error

    async def call(
        self,
        method: str,
        path: str,
        message: Message | bytes | None = None,
        *,
        seconds: float | None = None,
        limit: int = MAX_ANSWER,
    ) -> bytes:
        """One request with a small answer, within ``seconds``. Raises ``PeerError``."""
        body = message.encode() if isinstance(message, Message) else message
        try:
            async with asyncio.timeout(seconds or self._limits.answer_seconds):
                async with self.request(method, path, data=body) as response:
                    return await http.bounded(response.content, limit)
        except TimeoutError as error:
            raise self.translate(error) from error

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; the response once its headers are there and it is a success. Raises ``PeerError``."""
        if self._session is None:
            raise Interrupted(f"The link to {self.who} is closed.")
        url = f"https://{server_name(self.node_id) if self.node_id else http.ANYONE}:{self.address.port}{path}"
        kind = {}
        if isinstance(data, bytes):
            kind, data = {"Content-Type": http.CONTENT_TYPE}, io.BytesIO(data)
        try:
            async with self._session.request(
                method, url, data=data, headers={**kind, **(headers or {})}, allow_redirects=False
            ) as response:
                self._proven = True
                if response.status >= 300:
                    raise await self._refusal(response)
                yield response
        except (aiohttp.ClientError, OSError, TrustError) as error:
            raise self.translate(error) from error

    def translate(self, error: BaseException) -> PeerError:
        """The ``PeerError`` that says what ``error``, raised while talking to this peer, means."""
        made = self._meaning(error)
        if isinstance(made, NotTrusted | WrongDevice):
            log.warning("peer not accepted", address=str(self.address), error=made.code, reason=str(made))
        return made

    def _meaning(self, error: BaseException) -> PeerError:
        trust = explain(error)
        if trust is not None and not isinstance(trust, HandshakeFailed):
            return NotTrusted.of(trust)
        if self._proven:
            if isinstance(error, TimeoutError):
                return Interrupted(f"{self.who} did not answer in time.")
            return Interrupted(f"The connection to {self.who} broke.")
        if trust is not None:
            return Unreachable(f"{self.address} answers, but not as a Backroom agent: {trust}", hint=trust.hint)
        if isinstance(error, aiohttp.ClientConnectorError):
            return Unreachable(f"{self.address} cannot be reached: {error.os_error.strerror or error.os_error}.")
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.address} does not answer.")
        # With TLS 1.3 the server judges our certificate after our side of the handshake is over: it just hangs up.
        return NotTrusted(f"{self.who} hung up at once: it does not accept this laptop's certificate.")

    async def _refusal(self, response: aiohttp.ClientResponse) -> PeerError:
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                problem = Problem.decode(await http.bounded(response.content, 64 << 10))
        except (MessageError, BadAnswer, TimeoutError) as error:
            if response.status == 404:
                return TooOld(f"{self.who} does not know this request.")
            return BadAnswer(f"{self.who} answered with status {response.status} and no reason ({error}).")
        refused = Refused(problem, status=response.status)
        log.warning("refused by peer", address=str(self.address), error=problem.code, reason=problem.message)
        return refused

    def require_member(self) -> None:
        """Raise ``NotTrusted`` once the peer was shut out: to be called while bytes go to it or come from it."""
        try:
            if self.member is not None:
                self._store.roster().require(self.member.node_id)
        except TrustError as error:
            raise NotTrusted.of(error) from error

    def check(self, tls: ssl.SSLObject | None) -> None:
        """Whether the other end of a connection is who it should be. Raises ``TrustError``."""
        if tls is None:
            raise HandshakeFailed("The connection has no TLS.")
        self.member = authenticate(tls, self._store.roster(), self._store.clock(), self.node_id, dates=self._dates)


_CONTEXTS: WeakKeyDictionary[Store, dict[bool, tuple[object, ssl.SSLContext]]] = WeakKeyDictionary()


def _prepared(store: Store, check_node: bool) -> tuple[ssl.SSLContext, Identity]:
    """The context for dialling, and who dials. Blocking. A context is kept as long as the files that it was made of
    are the same: of certificate, key and authorities. Whom it may talk to is asked of the roster, each time.
    """
    stamp, kept = store.tls_files().stamp(), _CONTEXTS.setdefault(store, {})
    if check_node not in kept or kept[check_node][0] != stamp:
        kept[check_node] = (stamp, client_context(store, note_failure, check_node=check_node))
    return kept[check_node][1], store.identity()


class _Connector(aiohttp.TCPConnector):
    """Checks the peer each time a connection is taken for a request, before a byte of it is sent."""

    def __init__(self, link: Link, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(ssl=context, **options)
        self._link = link

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        connection = await attempt(super().connect(req, traces, timeout), lambda made: made.close())
        try:
            transport = connection.transport
            self._link.check(transport.get_extra_info("ssl_object") if transport is not None else None)
        except TrustError:
            connection.close()
            raise
        return connection


class _Resolver(aiohttp.abc.AbstractResolver):
    """Answers every name with the one host that is dialled."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        results: list[aiohttp.abc.ResolveResult] = []
        for kind, _, proto, _, place in found:
            zone = f"%{place[3]}" if kind == socket.AF_INET6 and len(place) == 4 and place[3] else ""
            results.append(
                aiohttp.abc.ResolveResult(
                    hostname=host,
                    host=str(place[0]).partition("%")[0] + zone,
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing to close."""
