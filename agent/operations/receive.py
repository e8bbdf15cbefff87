"""What this laptop does for its peers: take pushed bundles, make backups for them, list and digest businesses.

Who asks has been checked against the roster by the peer server; what they may ask is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.incoming import Incoming
from agent.archive.records import DONE, FAILED, REFUSED, TransferRecord
from agent.database.errors import DatabaseError
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choices import NO_CHOICES
from agent.engine.compare_answers import Answering
from agent.engine.errors import EngineError
from agent.engine.plan import RestoreResult
from agent.log import get_logger
from agent.operations.applying import apply_bundle, in_words, telling, totals
from agent.operations.approving import Approval, Approvals, Left
from agent.operations.arriving import CANCELLED, Arrivals
from agent.operations.deltas import first_kept
from agent.operations.early import EarlyRestores
from agent.operations.errors import OperationError
from agent.operations.giving import Giving
from agent.operations.judging import OfferJudge
from agent.operations.look import travelling
from agent.operations.looking import LOOK, look_at
from agent.operations.queue import Queue
from agent.operations.requests import STORE, WAITS
from agent.operations.restores import proved
from agent.operations.signing import Signing
from agent.operations.workspace import Workspace, utc_now
from agent.peers.handler import Accept, Arrived, Decision, Done, IncomingOffer, Part, Peer, Prepared, Refuse, Report
from agent.tables.errors import TablesError
from certs.identity import verify_signature
from protocol.delta import News
from protocol.errors import ProtocolError
from protocol.messages import Outcome, Problem, SignedReceipt
from protocol.requests import (
    BusinessList,
    CompareRequest,
    PullRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    SchemaAnswer,
    TableDigest,
    TableMark,
)

log = get_logger(__name__)

OTHER_RESTORE_SECONDS = 120.0


class Reception:
    """The work behind the peer server, from the first that is asked of it. One apply at a time; others queue."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history
        self.arrivals = Arrivals(workspace.home, history)
        self._own_node = workspace.store.identity().node_id
        self._judge = OfferJudge(workspace, history, self.arrivals)
        self._answering = Answering.of(lambda: workspace.database_url, workspace.catalogue)
        self._queue = Queue()
        self.approvals = Approvals(workspace, history)
        self._signing = Signing(workspace, history, self.approvals)
        self._early = EarlyRestores(workspace, history, self._queue.lock)
        self._giving = Giving(workspace, history)
        self._left: dict[str, asyncio.Task[None]] = {}

    # Pushes to this laptop.

    async def offer(self, peer: Peer, offer: IncomingOffer) -> Decision:
        """Decide on an offer from its manifest: who made it, for whom, when, what it holds, and whether it fits."""
        manifest = offer.manifest
        looked: str | None = None
        for record in await self._history.transfers(
            direction="received", bundle_id=manifest.bundle_id, peer=peer.node_id, limit=5
        ):
            if record.mode == LOOK and offer.mode != STORE:
                looked = record.id
                continue
            if record.receipt is not None:
                return Done(SignedReceipt.decode(record.receipt))
            if record.id == offer.transfer_id and record.error_code == CANCELLED:
                here = self._workspace.config.device_name()
                sentence = f"The transfer was cancelled; {here} does not take it any more."
                return Refuse(Problem(CANCELLED, sentence, "Push anew if it should go on after all."))
        problem = await self._judge.problem(peer, offer)
        if problem is not None:
            log.warning("offer refused", peer=peer.name, bundle=manifest.bundle_id, reason=problem.message)
            return Refuse(problem)
        if offer.transfer_id in self._left:
            here = self._workspace.config.device_name()
            return Refuse(Problem(WAITS, f"It waits for a yes on {here}.", "Run the push again later."))
        await self._begin(peer, offer)
        business = manifest.business.id if manifest.business else None
        await self.arrivals.forget_older(peer.node_id, business, manifest.bundle_id)
        if looked is not None:
            await self.arrivals.take_over(looked, offer.transfer_id)
        part = self.arrivals.expect(offer.transfer_id, manifest.bundle_id, offer.size)
        base = await first_kept(self._workspace, self._history, peer.node_id, offer.bases)
        if offer.mode == "newer" and base is None:
            unasked = self.approvals.unasked(peer, offer)
            part.follower = await self._early.expect(offer.transfer_id, manifest, part.path, unasked)
        return Accept(part, ask=await self.approvals.needed(peer, offer), base=base)

    async def _begin(self, peer: Peer, offer: IncomingOffer) -> None:
        manifest = offer.manifest
        known = await self._history.transfers(direction="received", bundle_id=manifest.bundle_id, limit=5)
        if any(record.id == offer.transfer_id for record in known):
            await self._history.resume_transfer(offer.transfer_id)
            return
        await self._history.start_transfer(
            TransferRecord(
                id=offer.transfer_id,
                direction="received",
                mode=LOOK if offer.mode == STORE else "push",
                kind=manifest.kind.value,
                peer_node=peer.node_id,
                peer_name=peer.name,
                state="started",
                started_at=utc_now(),
                bundle_id=manifest.bundle_id,
                business_id=manifest.business.id if manifest.business else None,
                business_name=manifest.business.name if manifest.business else None,
                bytes_total=offer.size,
            )
        )

    async def stopped(self, peer: Peer, offer: IncomingOffer, *, cancelled: bool) -> None:
        """Note that a bundle comes no further."""
        await self._early.forget(offer.transfer_id)
        await self.arrivals.stopped(offer.transfer_id, peer.name, cancelled=cancelled)

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        """Apply a bundle that is complete, keep it in the archive, and sign what came of it.

        After a refusal the bundle stays in the archive and the receipt says so. After a failure of the database it
        stays in the spool, so that the same push can be tried again without sending it again.
        """
        assert isinstance(part, Incoming)
        await self.arrivals.arrived(offer.transfer_id, offer.size)
        report("checking", 0, 0, "")
        if arrived is None:
            bundle = await verify_bundle(part.path, verify_signature)
        else:
            bundle = VerifiedBundle(
                part.path, offer.manifest, arrived.seal, arrived.signer, offer.size, places=arrived.places
            )
        news = arrived.news if arrived is not None else None
        if offer.mode == STORE:
            return await self._look(peer, offer, part, bundle, report)
        try:
            approval = await self.approvals.decide(peer, offer, bundle, report, self._queue.lock)
            result = await self._early.result(offer.transfer_id, bundle, approval, report)
            if result is not None:
                return await self._applied(peer, offer, part, bundle, result, approval)
            async with self._queue.turn(lambda before: report("queued", 0, 0, f"{before} before it")):
                result = await self._apply(offer, bundle, news, approval, report)
                return await self._applied(peer, offer, part, bundle, result, approval)
        except (DatabaseError, ArchiveError, OSError) as error:
            # Where the disk is full it may be that the history cannot be written to either.
            with suppress(ArchiveError):
                code = getattr(error, "code", "unexpected")
                await self._history.end_transfer(
                    offer.transfer_id, FAILED, bytes_done=offer.size, error_code=code, error=str(error)
                )
            raise
        except (EngineError, ProtocolError, TablesError, OperationError) as error:
            log.warning("push refused", peer=peer.name, bundle=bundle.manifest.bundle_id, reason=str(error))
            return await self._signing.refused(offer, part, bundle, error)

    async def _apply(
        self, offer: IncomingOffer, bundle: VerifiedBundle, news: News | None, approval: Approval, report: Report
    ) -> RestoreResult:
        return await apply_bundle(
            self._workspace,
            self._history,
            bundle,
            conflicts=approval.conflicts,
            news=news,
            expected=approval.expected,
            approver=approval.approver,
            transfer_id=offer.transfer_id,
            wait_seconds=OTHER_RESTORE_SECONDS,
            progress=telling(report, bundle.manifest.total_rows),
        )

    async def _applied(
        self,
        peer: Peer,
        offer: IncomingOffer,
        part: Incoming,
        bundle: VerifiedBundle,
        result: RestoreResult,
        approval: Approval,
    ) -> SignedReceipt:
        """The rows are in: keep the bundle, and sign what came of it.

        Whatever else goes wrong now, the sender must be able to learn that.
        """
        manifest = bundle.manifest
        counts = totals(result.plan)
        by_table = {name: in_words(each) for name, each in result.plan.tables.items()}
        words = [*await self._proof(bundle, result, approval), *result.plan.warnings]
        receipt = self._signing.receipt(manifest, "applied", by_table, counts, "; ".join(words)[:1000])
        await self._signing.applied(offer, part, bundle, receipt, counts)
        log.info("push applied", peer=peer.name, bundle=manifest.bundle_id, **counts)
        return receipt

    async def _look(
        self, peer: Peer, offer: IncomingOffer, part: Incoming, bundle: VerifiedBundle, report: Report
    ) -> SignedReceipt:
        """Say what the bundle would do; it stays in the spool until it is pushed, or something newer comes."""
        try:
            async with self._queue.turn(lambda before: report("queued", 0, 0, f"{before} before it")):
                seen = await look_at(self._workspace, self._history, bundle, peer.name, offer.transfer_id)
        except (DatabaseError, EngineError, ProtocolError, TablesError, OperationError) as error:
            receipt = self._signing.receipt(bundle.manifest, "refused", {}, {}, str(error))
            await self._signing.end(offer, receipt, REFUSED, {}, error)
            await part.discard()
            return receipt
        outcome: Outcome = "refused" if seen.refused else "stored"
        receipt = self._signing.receipt(bundle.manifest, outcome, seen.tables, seen.totals, seen.words)
        await self._signing.end(offer, receipt, REFUSED if seen.refused else DONE, seen.totals, None)
        return receipt

    async def _proof(self, bundle: VerifiedBundle, result: RestoreResult, approval: Approval) -> list[str]:
        """Where the bundle's rows won: whether the business here is now the bundle's, for the receipt."""
        if approval.conflicts is not Conflicts.BUNDLE:
            return []
        try:
            proof = await proved(self._workspace, bundle.path, result, NO_CHOICES)
        except Exception as error:
            # The rows are in: a comparison that fails now, however, must not make the push look failed.
            log.warning("not compared after the push", bundle=bundle.manifest.bundle_id, reason=str(error))
            return ["not compared with the bundle"]
        if proof is None:
            return []
        return ["compared with the bundle: identical" if proof.identical else "compared with the bundle: differs"]

    # Pulls from this laptop.

    async def prepare_pull(self, peer: Peer, request: PullRequest, report: Report) -> Prepared:
        """Make the backup that a peer asks for, in the archive; the full kinds for admins only."""
        return await self._giving.prepare_pull(peer, request, report)

    # Looking.

    async def businesses(self, peer: Peer) -> BusinessList:
        """The businesses of this laptop's database that the peer may know of."""
        return await self._giving.businesses(peer)

    async def mark(self, peer: Peer) -> TableMark:
        """Whether rows that travel have changed, as far as that can be told."""
        return await self._giving.mark()

    def table_digests(self, peer: Peer, request: CompareRequest) -> AsyncIterator[TableDigest]:
        """The digest of each table in the scope of a business."""
        self._giving.require_compare(peer, request.business)
        return self._answering.digests(peer.node_id, request)

    async def range_digests(self, peer: Peer, request: RangeRequest) -> RangeDigests:
        """The digests of ranges of one table in that scope."""
        self._giving.require_compare(peer, request.business)
        return await self._answering.ranges(peer.node_id, request)

    def row_hashes(self, peer: Peer, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        """Key and hash of each row of one table in that scope."""
        self._giving.require_compare(peer, request.business)
        return self._answering.rows(peer.node_id, request)

    async def schema(self, peer: Peer) -> SchemaAnswer:
        """The tables that may travel, with their columns' types."""
        return SchemaAnswer(await travelling(self._workspace))

    # Keeping house.

    async def close(self) -> None:
        """Let go of the database."""
        await self._early.close()
        await self._answering.close()

    async def go_on(self) -> None:
        """After a start: deal with the pushes that waited for a yes when the agent stopped. Until cancelled."""
        for each in await self.approvals.left():
            self._left[each.offer.transfer_id] = asyncio.create_task(self._go_on(each))
        try:
            await asyncio.gather(*self._left.values())
        finally:
            for task in self._left.values():
                task.cancel()
            await asyncio.gather(*self._left.values(), return_exceptions=True)

    async def _go_on(self, left: Left) -> None:
        try:
            await self.apply(left.peer, left.offer, left.part, None, lambda *_: None)
        except Exception as error:
            log.warning("a waiting push failed", peer=left.peer.name, reason=str(error))
        finally:
            await left.part.close()
            self._left.pop(left.offer.transfer_id, None)
