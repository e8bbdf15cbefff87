"""Whether this laptop takes an offered bundle, judged from its manifest: who made it, for whom, when, how much."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta

from agent.archive.history import History
from agent.operations.approving import MODES
from agent.operations.arriving import SPARE_BYTES, Arrivals
from agent.operations.errors import OperationError
from agent.operations.requests import STORE
from agent.operations.rights import require_push
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import PeerError
from agent.peers.handler import IncomingOffer, Peer
from certs.errors import TrustError
from protocol.manifest import Kind
from protocol.messages import Problem
from protocol.refusal import foreign_device_state, holds_device_state

OLDEST_PUSH = timedelta(days=7)
CLOCK_TOLERANCE = timedelta(minutes=30)
MOST_SPOOLED = 1 << 39
"""Bytes of bundles on their way in that may lie here at a time."""


class OfferJudge:
    """Judges offers for one laptop."""

    def __init__(self, workspace: Workspace, history: History, arrivals: Arrivals) -> None:
        self._workspace = workspace
        self._history = history
        self._arrivals = arrivals
        self._own_node = workspace.store.identity().node_id

    async def problem(self, peer: Peer, offer: IncomingOffer) -> Problem | None:
        """Why the offer is refused; None where it is taken."""
        manifest = offer.manifest
        shop = self._workspace.store.require_shop()
        here = self._workspace.config.device_name()
        if manifest.source_node != peer.node_id:
            return Problem(
                "wrong-source", f"{peer.name} offers a bundle that another device made.", "Push it from there."
            )
        if manifest.target_node not in (None, self._own_node):
            return Problem("wrong-target", f"This bundle was not made for {here}.", "Push to this laptop anew.")
        if manifest.shop_id != shop.shop_id:
            return Problem("wrong-shop", "This bundle was made for another shop.", "Push it anew.")
        if holds_device_state(manifest):
            return Problem.of(foreign_device_state(manifest))
        if manifest.kind is not Kind.BUSINESS:
            return Problem(
                "kind-refused", f"{here} takes pushes of one business only.", "Let an admin pull full backups instead."
            )
        if offer.mode not in (*MODES, STORE):
            return Problem("mode-refused", f"{here} does not take pushes in this mode.", "Push without it.")
        try:
            business = manifest.business
            self._workspace.clones.require_clear(peer.node_id)
            require_push(
                self._workspace.store.roster(),
                peer.node_id,
                self._own_node,
                business.id if business else None,
                business.name if business else "this",
            )
        except (OperationError, PeerError, TrustError) as error:
            return Problem.of(error)
        now = utc_now()
        if manifest.created > now + CLOCK_TOLERANCE:
            return Problem(
                "clock",
                f"The bundle is dated {manifest.created:%Y-%m-%d %H:%M} UTC; on {here} it is {now:%Y-%m-%d %H:%M} UTC.",
                "Set the clock that is wrong, then push again.",
            )
        if manifest.created < now - OLDEST_PUSH:
            return Problem("too-old", f"The bundle is from {manifest.created:%Y-%m-%d}.", "Push the business anew.")
        return await self._room(peer, offer)

    async def _room(self, peer: Peer, offer: IncomingOffer) -> Problem | None:
        """Whether the rest of the bundle fits: into the peer's share of the archive, beside others on their way, and on
        the disk."""
        here, spool = self._workspace.config.device_name(), self._workspace.home.spool
        needed = offer.size - await self._arrivals.here(offer.transfer_id)
        kept = sum(each.size for each in await self._history.backups(device=peer.node_id, origin="received"))
        if kept + offer.size > self._workspace.config.device_quota * 1e9:
            return Problem(
                "device-quota",
                f"{peer.name} has {kept // 1_000_000} MB of bundles in the archive of {here}, which is its share.",
                f"Tidy up on {here} (`backroom prune`), or raise `device_quota` in its config.toml.",
            )
        if await self._arrivals.held() + needed > MOST_SPOOLED:
            return Problem(
                "spool-full", f"Too many bundles wait on {here} already.", f"Look at `backroom transfers` on {here}."
            )
        free = (await asyncio.to_thread(shutil.disk_usage, spool)).free - self._arrivals.reserved(offer.transfer_id)
        if free < needed + SPARE_BYTES:
            return Problem(
                "disk-full",
                f"{here} has {max(0, free) // 1_000_000} MB free; {needed // 1_000_000} MB of the bundle are to come.",
                f"Free some space on {here}: the push goes on then.",
            )
        return None
