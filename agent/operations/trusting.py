"""What this laptop answers when devices of its shop ask about trust: renewals, a shared authority, backups it holds."""

from __future__ import annotations

import asyncio
import importlib

from agent.archive.history import History
from agent.log import get_logger
from agent.operations import requests
from agent.operations.errors import Declined
from agent.operations.requests import Requests
from agent.operations.rights import NotAllowed
from agent.operations.workspace import Workspace
from agent.peers.handler import Peer
from certs.errors import NotAdmin
from protocol.trusting import MAX_BACKUPS, BackupItem, BackupList, RenewalAnswer

log = get_logger(__name__)


class TrustDesk:
    """The peer server's handler for these questions."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history
        self._requests = Requests(workspace.home)

    async def renew(self, peer: Peer, public_key: bytes, *, ended: bool) -> RenewalAnswer:
        """A new certificate at once while the present one holds; after its end a person here has to say yes."""
        store = self._workspace.store
        if await asyncio.to_thread(store.authority) is None:
            name = self._workspace.config.device_name()
            raise NotAdmin(f"{name} does not hold the shop's authority.", hint="Another admin's laptop may.")
        if ended:
            asked = await asyncio.to_thread(self._ask, peer)
            if asked.state == requests.DECLINED:
                raise Declined("The renewal was declined.", "Join the shop again with a new invitation.")
            if asked.state != requests.APPROVED:
                return RenewalAnswer("waiting", text=f"request {asked.id} on {self._workspace.config.device_name()}")
            await asyncio.to_thread(self._requests.close, asked.id, requests.DONE, "renewed")
        certificate = await asyncio.to_thread(store.renew, public_key)
        log.info("certificate renewed for", peer=peer.name, ended=ended)
        return RenewalAnswer("renewed", certificate)

    def _ask(self, peer: Peer) -> requests.Request:
        text = f"{peer.name} asks for a new certificate: the present one has ended, or a clock is wrong."
        return self._requests.ask("renewal", f"renewal:{peer.node_id}", peer.node_id, peer.name, text)

    async def take_authority(self, peer: Peer, sealed: bytes) -> None:
        """Lay it down until `backroom authority accept`."""
        # Seldom asked for, and with much that it works with.
        governing = await asyncio.to_thread(importlib.import_module, "agent.operations.governing")
        await governing.keep_shared(self._workspace, peer, sealed)
        log.warning("authority shared with this laptop", peer=peer.name, next="backroom authority accept")

    async def backups(self, peer: Peer, source: str) -> BackupList:
        """What is in the archive of that device."""
        require_source(peer, source)
        found = await self._history.backups(device=source, limit=MAX_BACKUPS)
        archive = self._workspace.archive

        def present() -> list[BackupItem]:
            return [
                BackupItem(
                    bundle_id=each.id,
                    kind=each.kind,
                    source_node=each.source_node,
                    created=each.created_at,
                    size=each.size,
                    rows=each.records,
                    business=each.business_id,
                    business_name=each.business_name,
                )
                for each in found
                if each.source_node == source and each.damaged_at is None and archive.locate(each.path).is_file()
            ]

        return BackupList(tuple(await asyncio.to_thread(present)))


def require_source(peer: Peer, source: str) -> None:
    """Who may have what is held of a device: the device, the one that replaces it, and admins. Else ``NotAllowed``."""
    if not (peer.admin or source in (peer.node_id, peer.replaces)):
        raise NotAllowed(f"{peer.name} may not have backups of another laptop: only admins and its replacement may.")
