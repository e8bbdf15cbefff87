"""What peers may ask without a bundle: hello, the roster, the businesses."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from importlib import metadata

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.clones import Clones
from agent.peers.handler import Handler, Peer
from agent.peers.limits import MAX_ROSTER_BYTES, ServerLimits
from certs.errors import RosterRollback
from certs.store import Store
from protocol.messages import PROTOCOL_VERSION, Hello
from protocol.requests import Whereabouts

log = get_logger(__name__)


def this_software() -> str:
    """Name and version of this Backroom."""
    return f"backroom {metadata.version('backroom')}"


def hello(store: Store, software: str, clones: Clones | None = None) -> Hello:
    """What this laptop says about itself."""
    identity = store.identity()
    return Hello(
        node_id=identity.node_id,
        name=identity.name,
        software=software,
        platform=platform.system().lower(),
        versions=(PROTOCOL_VERSION,),
        roster_version=store.roster().version,
        time=store.clock(),
        instance=clones.instance if clones is not None else "",
        clones=clones.notes() if clones is not None else {},
    )


class Questions:
    """The routes for them. ``check`` raises for a peer that may not ask."""

    def __init__(
        self,
        store: Store,
        handler: Handler,
        limits: ServerLimits,
        check: Callable[[web.Request], Peer],
        about: Callable[[], Hello],
        clones: Clones | None = None,
    ) -> None:
        self._store = store
        self._handler = handler
        self._limits = limits
        self._check = check
        self._about = about
        self._clones = clones

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [
            web.get("/v1/hello", self._hello, allow_head=False),
            web.post("/v1/hello", self._greet),
            web.get("/v1/roster", self._roster, allow_head=False),
            web.post("/v1/roster", self._take_roster),
            web.post("/v1/peers", self._peers),
            web.get("/v1/businesses", self._businesses, allow_head=False),
            web.get("/v1/mark", self._mark, allow_head=False),
        ]

    async def _hello(self, request: web.Request) -> web.Response:
        self._check(request)
        return http.answer(await asyncio.to_thread(self._about))

    async def _greet(self, request: web.Request) -> web.Response:
        """The same, and what the asker says about itself: the clone alarms that stand there."""
        peer = self._check(request)
        theirs = Hello.decode(await http.read_body(request, 1 << 20, self._limits.idle_seconds))
        if self._clones is not None:
            await asyncio.to_thread(self._clones.told, peer.name, theirs.clones)
        return http.answer(await asyncio.to_thread(self._about))

    async def _roster(self, request: web.Request) -> web.Response:
        self._check(request)
        signed = await asyncio.to_thread(self._store.signed_roster)
        return web.Response(body=signed.encode(), content_type=http.CONTENT_TYPE)

    async def _take_roster(self, request: web.Request) -> web.Response:
        """Take a newer roster; the answer is the one held afterwards, so that both sides end with the highest."""
        peer = self._check(request)
        data = await http.read_body(request, MAX_ROSTER_BYTES, self._limits.idle_seconds)
        before = self._store.roster().version
        try:
            after = (await asyncio.to_thread(self._store.save_roster, data)).version
        except RosterRollback:
            after = before
        if after != before:
            log.info("roster taken", peer=peer.name, version=after, before=before)
        signed = await asyncio.to_thread(self._store.signed_roster)
        return web.Response(body=signed.encode(), content_type=http.CONTENT_TYPE)

    async def _peers(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        theirs = Whereabouts.decode(await http.read_body(request, 1 << 20, self._limits.idle_seconds))
        return http.answer(await self._handler.whereabouts(peer, theirs))

    async def _businesses(self, request: web.Request) -> web.Response:
        return http.answer(await self._handler.businesses(self._check(request)))

    async def _mark(self, request: web.Request) -> web.Response:
        return http.answer(await self._handler.mark(self._check(request)))
