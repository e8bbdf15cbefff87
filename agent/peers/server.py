"""The peer server: HTTP/1.1 over mutual TLS 1.3, for devices of the shop alone (PEER.md).

Every request is checked against the roster as it is on disk at that moment, so that a revocation made by any process
of this laptop works at once. Whoever is refused is refused before any work, and each refusal is logged with its
reason, failed TLS handshakes included.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.clocks import CLOCK_PATH
from agent.peers.clones import Clones
from agent.peers.comparing import Comparing
from agent.peers.door import Door, misdirected
from agent.peers.errors import PeerError, RequestError
from agent.peers.handler import Handler, Peer
from agent.peers.handshake import note_failure
from agent.peers.limits import DEFAULT_SERVER_LIMITS, ServerLimits
from agent.peers.pace import Throttle
from agent.peers.pulls import Pulls
from agent.peers.questions import Questions, hello, this_software
from agent.peers.trusting import RENEWAL_PATH, TrustHandler, Trusting
from agent.peers.upload import Standing
from agent.peers.uploads import Uploads
from certs.errors import TrustError
from certs.keys import server_name
from certs.store import Store
from certs.tls import authenticate, peer_dates, peer_public_key, reload, server_context
from protocol.errors import ProtocolError
from protocol.messages import Problem

log = get_logger(__name__)

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PeerServer:
    """Serves peers until closed. Use as ``async with PeerServer(store, handler) as server``.

    ``host`` is an address to listen on, or several; without any it listens on all interfaces. ``port`` 0 takes a free
    one. ``store`` must hold a shop.
    """

    def __init__(
        self,
        store: Store,
        handler: Handler,
        *,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        limits: ServerLimits = DEFAULT_SERVER_LIMITS,
        software: str = "",
        trust: TrustHandler | None = None,
        clones: Clones | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._store = store
        self._clones = clones
        self._context: ssl.SSLContext | None = None
        self._hosts = (host,) if isinstance(host, str) else tuple(host or ())
        self._limits = limits
        self._door: Door | None = None
        self._runner: web.AppRunner | None = None
        self._names: tuple[str, ...] = ()
        self._uploads = Uploads(handler, limits, self._check)
        self._pulls = Pulls(handler, limits, self._check, throttle or Throttle(None))
        about = partial(hello, store, software or this_software(), clones)
        self._comparing = Comparing(handler, limits, self._check)
        self._questions = Questions(store, handler, limits, self._check, about, clones)
        self._trusting = Trusting(trust, limits, self._check, self._proved, about)
        self.port = port

    async def __aenter__(self) -> PeerServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises ``NoShop``, or ``PeerError`` with code ``port-taken``."""
        context = await asyncio.to_thread(server_context, self._store, note_failure)
        self._context = context
        self._names = (server_name((await asyncio.to_thread(self._store.identity)).node_id), http.ANYONE)
        app = web.Application(middlewares=[self._guard])
        for part in (self._questions, self._comparing, self._uploads, self._pulls, self._trusting):
            app.router.add_routes(part.routes())
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=self._limits.keepalive_seconds,
            auto_decompress=False,
            shutdown_timeout=2.0,
        )
        await self._runner.setup()
        protocols = self._runner.server
        if protocols is None:
            raise PeerError("The peer server could not be set up.")
        self._door = Door(
            context,
            protocols,
            limits=self._limits,
            refused=_log_refusal,
            welcome=self._welcome,
        )
        try:
            self.port = self._door.listen(self._hosts, self.port)
        except OSError as error:
            await self.close()
            raise PortTaken(f"Port {self.port} cannot be used for peers: {error.strerror or error}.") from error

    async def close(self) -> None:
        """Stop listening, cut what is open, keep what has arrived."""
        if self._door is not None:
            await self._door.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._uploads.close()
        await self._pulls.close()
        self._door = None

    async def reload(self) -> None:
        """Show the present certificate and know the present authority in the connections that follow."""
        if self._context is not None:
            await asyncio.to_thread(reload, self._context, self._store)

    def drop(self, node_id: str) -> None:
        """Cut every connection of a device at once."""
        if self._door is not None:
            self._door.drop(node_id)

    def transfers(self) -> tuple[Standing, ...]:
        """Where all bundles on their way in stand."""
        return self._uploads.active()

    async def cancel(self, transfer_id: str, by: str) -> bool:
        """End a bundle on its way in for good; False where there is no such one, or it is too late."""
        return await self._uploads.cancel(transfer_id, by)

    def _welcome(self, node_id: str) -> bool:
        try:
            return self._store.roster().trusts(node_id)
        except TrustError:
            return False

    def _check(self, request: web.Request) -> Peer:
        """Who sends this request, by certificate and by the roster of this moment. Raises ``TrustError``."""
        transport = request.transport
        if self._door is None or transport is None or transport.is_closing():
            raise ConnectionResetError("The connection is gone.")
        connection = self._door.connection(transport)
        tls = transport.get_extra_info("ssl_object")
        if connection is None or not isinstance(tls, ssl.SSLObject):
            raise RequestError(403, "no-tls", "This request did not come through the door.")
        claimed = request.headers.get(http.NODE_HEADER)
        if claimed is None or len(claimed) > 100:
            raise RequestError(400, "bad-request", f"Every request must have the header {http.NODE_HEADER}.")
        dates = request.path not in (CLOCK_PATH, RENEWAL_PATH)
        member = authenticate(tls, self._store.roster(), self._store.clock(), claimed, dates=dates)
        if connection.meant is not None and connection.meant not in self._names:
            raise misdirected(member.name, connection.meant)
        if connection.node_id is None:
            if self._door.count(member.node_id) >= self._limits.connections_per_peer:
                raise RequestError(429, "too-many-connections", f"{member.name} has too many connections open.")
            connection.node_id = member.node_id
        if self._clones is not None:
            self._clones.seen(member.node_id, request.headers.get(http.INSTANCE_HEADER, ""), connection.address)
        return Peer.of(member, connection.address)

    def _proved(self, request: web.Request) -> tuple[bytes, bool]:
        """The public key behind a checked request, and whether its certificate is out of its time."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        if tls is None:
            raise ConnectionResetError("The connection is gone.")
        return peer_public_key(tls), peer_dates(tls, self._store.clock()) is not None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handle) -> web.StreamResponse:
        """Around every request: the caller is checked before anything else, errors become logged refusals."""
        connection = self._door.connection(request.transport) if self._door is not None else None
        if connection is not None:
            connection.asked = True
        try:
            self._check(request)
            return await handler(request)
        except web.HTTPException as error:
            refusal: Exception = RequestError(error.status, "not-served", f"This laptop does not serve {request.path}.")
            status = error.status
        except TrustError as error:
            refusal, status = error, 403
        except RequestError as error:
            refusal, status = error, error.status
        except ProtocolError as error:
            refusal, status = error, 422
        except (TimeoutError, ConnectionError):
            # The other side is gone or takes nothing any more; an answer that was begun cannot be taken back.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=408)
        except Exception as error:
            if not hasattr(error, "code"):
                log.exception("request failed", path=request.path)
                error = http.internal_error()
            refusal, status = error, 409 if hasattr(error, "hint") and not isinstance(error, RequestError) else 500
        _log_refusal(connection.address if connection else "", refusal, request.method, request.path)
        response = http.answer(Problem.of(refusal), status)
        # Who has not been let in on this connection counts against no limit of its own: it does not stay.
        unknown = connection is None or connection.node_id is None
        if unknown or isinstance(refusal, TrustError) or status in (408, 421, 429):
            response.force_close()
        return response


class PortTaken(PeerError):
    """The port for peers is in use or not allowed."""

    code = "port-taken"
    hint = "Another agent may be running; choose another port in config.toml, or 0 for a free one."


def _log_refusal(address: str, error: Exception, method: str = "", path: str = "") -> None:
    known = {"request": f"{method} {path}"} if path else {}
    log.warning("peer refused", address=address, error=getattr(error, "code", ""), reason=str(error), **known)
