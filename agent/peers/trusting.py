"""What devices ask of each other about trust: clocks, renewals, a shared authority, backups of a device (PEER.md).

The clock and the renewal are answered to a device of the shop whose certificate has ended, too: its key is proved by
TLS and the roster lists it as active; only the date is wrong, which may be the fault of either clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.clocks import CLOCK_PATH
from agent.peers.directory import Directory
from agent.peers.errors import NotFound, PeerError, Refused, RequestError
from agent.peers.handler import Peer
from agent.peers.limits import ServerLimits
from agent.peers.link import Link
from protocol.messages import Hello
from protocol.trusting import MAX_SEALED, BackupList, RenewalAnswer, SharedAuthority

log = get_logger(__name__)

RENEWAL_PATH = "/v1/renewal"


class TrustHandler(Protocol):
    """The work behind these questions. Refuses as ``Handler`` does: by raising what has ``code`` and ``hint``."""

    async def renew(self, peer: Peer, public_key: bytes, *, ended: bool) -> RenewalAnswer:
        """A new certificate for the key that the peer has proved; ``ended``: its present one is out of date."""
        ...

    async def take_authority(self, peer: Peer, sealed: bytes) -> None:
        """Keep an authority that an admin shares until the person here opens it with the passphrase."""
        ...

    async def backups(self, peer: Peer, source: str) -> BackupList:
        """The bundles here that the device with the node ID ``source`` made, as far as the peer may have them."""
        ...


class Trusting:
    """The routes. ``check`` raises for a peer that may not ask; ``proved``: its public key, whether it is outdated."""

    def __init__(
        self,
        handler: TrustHandler | None,
        limits: ServerLimits,
        check: Callable[[web.Request], Peer],
        proved: Callable[[web.Request], tuple[bytes, bool]],
        hello: Callable[[], Hello],
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._check = check
        self._proved = proved
        self._hello = hello

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [
            web.get(CLOCK_PATH, self._clock, allow_head=False),
            web.post(RENEWAL_PATH, self._renew),
            web.post("/v1/authority", self._authority),
            web.get("/v1/backups/{source}", self._backups, allow_head=False),
        ]

    async def _clock(self, request: web.Request) -> web.Response:
        self._check(request)
        return http.answer(await asyncio.to_thread(self._hello))

    async def _renew(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        public_key, ended = self._proved(request)
        return http.answer(await self._required().renew(peer, public_key, ended=ended))

    async def _authority(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        if not peer.admin:
            raise RequestError(403, "admin-only", f"Only an admin may share the authority; {peer.name} is a member.")
        data = await http.read_body(request, 2 * MAX_SEALED, self._limits.idle_seconds)
        await self._required().take_authority(peer, SharedAuthority.decode(data).sealed)
        return web.Response(status=204)

    async def _backups(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        return http.answer(await self._required().backups(peer, request.match_info["source"][:100]))

    def _required(self) -> TrustHandler:
        if self._handler is None:
            raise RequestError(404, "not-served", "This laptop does not serve that.")
        return self._handler


# Asking.


async def renewal(directory: Directory, node_id: str) -> RenewalAnswer:
    """Ask an admin's laptop for a new certificate, whatever the dates of the present one. Raises ``PeerError``."""
    failure: PeerError = NotFound("No address of that laptop is known.")
    for address in directory.candidates(node_id):
        link = Link(directory.store, address, node_id, directory.limits, dates=False)
        try:
            await link.open()
            return await link.read(RenewalAnswer.decode, "POST", RENEWAL_PATH)
        except Refused:
            raise
        except PeerError as error:
            failure = error
        finally:
            await link.close()
    raise failure


async def share_authority(directory: Directory, node_id: str, sealed: bytes) -> None:
    """Hand a sealed authority to another admin's laptop. Raises ``PeerError``."""
    link = await directory.connect(node_id)
    try:
        await link.call("POST", "/v1/authority", SharedAuthority(sealed))
    finally:
        await link.close()


async def backups_of(directory: Directory, node_id: str, source: str) -> BackupList:
    """The bundles made by ``source`` that a laptop holds. Raises ``PeerError``."""
    link = await directory.connect(node_id)
    try:
        return await link.read(BackupList.decode, "GET", f"/v1/backups/{source}")
    finally:
        await link.close()
