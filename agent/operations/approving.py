"""Pushes that may discard rows here wait for a person: planned, shown, answered, then applied exactly as planned."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.incoming import Incoming
from agent.archive.spool import Spool
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle
from agent.log import get_logger
from agent.operations import requests
from agent.operations.applying import totals
from agent.operations.errors import Declined, OperationError
from agent.operations.notifying import notify
from agent.operations.requests import Request, Requests
from agent.operations.restores import plan_bundle
from agent.operations.rights import require_push
from agent.operations.workspace import Workspace
from agent.peers.handler import IncomingOffer, Peer, Report
from agent.peers.push import read_manifest
from certs.errors import TrustError
from protocol.errors import ProtocolError

log = get_logger(__name__)

POLL_SECONDS = 0.5
MODES = {"newer": Conflicts.NEWER, "bundle": Conflicts.BUNDLE}
"""The modes of a push that this laptop takes; all but ``newer`` are asked about."""


class RequestExpired(OperationError):
    code = "request-expired"
    hint = "Push again, and have somebody say yes on the other laptop within two days."


@dataclass(frozen=True, slots=True)
class Approval:
    """How a push may be applied: which rows win, exactly which plan (None: whatever it is), and who said so."""

    conflicts: Conflicts
    expected: str | None
    approver: str


@dataclass(frozen=True, slots=True)
class Left:
    """A push that waited when the agent stopped: its bundle is complete in the spool."""

    peer: Peer
    offer: IncomingOffer
    part: Incoming


class Approvals:
    """The waiting pushes of one agent."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history
        self.requests = Requests(workspace.home)

    async def needed(self, peer: Peer, offer: IncomingOffer) -> bool:
        """Whether a person has to say yes before the offer is applied."""
        if offer.mode != requests.BUNDLE:
            return False
        business = offer.manifest.business.id if offer.manifest.business else ""
        return not await asyncio.to_thread(self.requests.permitted, peer.node_id, business, offer.mode)

    def unasked(self, peer: Peer, offer: IncomingOffer) -> Approval:
        """How the offer is applied if nobody has to say yes."""
        standing = "" if offer.mode == "newer" else ", by standing permission"
        return Approval(MODES[offer.mode], None, f"push from {peer.name}{standing}")

    async def decide(
        self, peer: Peer, offer: IncomingOffer, bundle: VerifiedBundle, report: Report, busy: asyncio.Lock
    ) -> Approval:
        """Wait until the push may be applied. ``busy`` is held while the plan is made.

        Raises ``Declined``, :class:`RequestExpired`, and what planning raises.
        """
        conflicts = MODES[offer.mode]
        # Asked again now: limits may have changed since the offer, days ago maybe.
        business, own = offer.manifest.business, self._workspace.store.identity().node_id
        name, which = (business.name, business.id) if business else ("this", None)
        require_push(self._workspace.store.roster(), peer.node_id, own, which, name)
        if not await self.needed(peer, offer):
            return self.unasked(peer, offer)
        asked = await asyncio.to_thread(self.requests.about, offer.transfer_id)
        if asked is None or asked.state not in (requests.WAITING, requests.APPROVED, requests.DECLINED):
            async with busy:
                asked = await self._ask(peer, offer, bundle, conflicts)
        here = self._workspace.config.device_name()
        while asked.state == requests.WAITING:
            report("waiting", 0, 0, f"for a yes on {here}: backroom approve {asked.id}")
            await asyncio.sleep(POLL_SECONDS)
            asked = await asyncio.to_thread(self.requests.get, asked.id)
        if asked.state == requests.APPROVED:
            require_push(self._workspace.store.roster(), peer.node_id, own, which, name)
            log.info("push approved", peer=peer.name, request=asked.id, by=asked.answered_by)
            return Approval(conflicts, str(asked.plan["plan"]), f"{asked.answered_by}, for a push from {peer.name}")
        if asked.state == requests.DECLINED:
            raise Declined(f"{asked.answered_by} on {here} declined it.")
        raise RequestExpired(f"Nobody on {here} said yes in time.")

    async def _ask(self, peer: Peer, offer: IncomingOffer, bundle: VerifiedBundle, conflicts: Conflicts) -> Request:
        plan = await plan_bundle(
            self._workspace,
            self._history,
            bundle,
            conflicts,
            approver=f"push from {peer.name}",
            transfer_id=offer.transfer_id,
        )
        business = offer.manifest.business
        name = business.name if business else offer.manifest.kind.value
        asked = await asyncio.to_thread(
            lambda: self.requests.ask(
                "push",
                offer.transfer_id,
                peer.node_id,
                peer.name,
                f"{peer.name} wants its rows of {name} to replace those here",
                business_id=business.id if business else None,
                business=name,
                plan={**plan.as_dict(), **totals(plan)},
            )
        )
        log.warning("push waits for a yes", peer=peer.name, request=asked.id, business=name, **totals(plan))
        await notify(self._workspace, asked)
        return asked

    async def ended(self, offer: IncomingOffer, outcome: str) -> None:
        """Note on the request, if there was one, what became of the push."""

        def note() -> None:
            asked = self.requests.about(offer.transfer_id)
            if asked is not None and asked.state in (requests.APPROVED, requests.DECLINED):
                done = requests.DONE if outcome == "applied" else requests.FAILED
                self.requests.close(asked.id, done if asked.state == requests.APPROVED else asked.state, outcome)

        await asyncio.to_thread(note)

    async def left(self) -> list[Left]:
        """What waited, or was answered and not dealt with, when the agent stopped."""
        found = []
        for asked in await asyncio.to_thread(self.requests.all):
            if asked.what != "push" or asked.state not in (requests.WAITING, requests.APPROVED, requests.DECLINED):
                continue
            if asked.outcome:
                continue
            try:
                found.append(await self._take_up(asked))
            except (OperationError, ArchiveError, TrustError, ProtocolError, OSError) as error:
                log.warning("a waiting push is gone", request=asked.id, reason=str(error))
                await asyncio.to_thread(self.requests.close, asked.id, requests.FAILED, str(error))
        return found

    async def _take_up(self, asked: Request) -> Left:
        peer = Peer.of(self._workspace.store.roster().require(asked.node_id), "")
        bundle_id = str(asked.plan["bundle_id"])
        known = await self._history.transfers(direction="received", bundle_id=bundle_id, limit=10)
        record = next((each for each in known if each.id == asked.key), None)
        if record is None or record.receipt is not None or record.bytes_total is None:
            raise OperationError("It was dealt with already.")
        part = Spool(self._workspace.home).open(asked.key, record.bytes_total)
        await part.__aenter__()
        if not part.complete:
            await part.close()
            raise OperationError("Its bundle is not here any more.")
        manifest = await asyncio.to_thread(read_manifest, part.path)
        await self._history.resume_transfer(asked.key)
        mode = str(asked.plan["conflicts"])
        return Left(peer, IncomingOffer(asked.key, manifest, record.bytes_total, None, _mode(mode)), part)


def _mode(text: str) -> requests.PushMode:
    for mode in requests.MODES:
        if mode == text:
            return mode
    raise OperationError(f"A push in the mode {text!r} is not known.")
