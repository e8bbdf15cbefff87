"""What peers pull from this laptop: backups made for them, and bundles that it holds of a device that was replaced."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import DONE, FAILED, BackupRecord, TransferRecord
from agent.database.businesses import BusinessError, find_business
from agent.engine.backup import BackupRequest
from agent.engine.bundle_file import manifest_of
from agent.engine.progress import Step
from agent.log import get_logger
from agent.operations.backups import make_backup
from agent.operations.errors import OperationError
from agent.operations.look import businesses, businesses_here
from agent.operations.marking import Marker
from agent.operations.rights import may_see, require, require_compare, require_pull
from agent.operations.trusting import require_source
from agent.operations.workspace import Workspace, utc_now
from agent.peers.handler import Peer, Prepared, Report
from agent.reading import size_of
from certs.roster import NO_LIMITS, Limits, Right
from protocol.manifest import Kind
from protocol.requests import BusinessItem, BusinessList, PullRequest, TableMark

log = get_logger(__name__)


class NoSuchBundle(OperationError):
    code = "no-such-bundle"
    hint = "Ask again which backups there are."


class Giving:
    """This laptop's side of pulls and questions about businesses, within the limits of both devices."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history
        self._marker = Marker(workspace)
        self._own_node = workspace.store.identity().node_id

    async def prepare_pull(self, peer: Peer, request: PullRequest, report: Report) -> Prepared:
        """Make the backup that a peer asks for, in the archive, or find the bundle that it names."""
        self._workspace.clones.require_clear(peer.node_id)
        kind = Kind(request.kind)
        if request.bundle_id is not None and (known := await self._held(peer, kind, request.bundle_id)) is not None:
            path = self._workspace.archive.locate(known.path)
            if await asyncio.to_thread(self._is_there, known, path):
                return await self._prepared(path, known.id)
        if request.bundle_id is not None and request.business is None and kind is Kind.BUSINESS:
            raise NoSuchBundle("This bundle is not here any more.")
        business = request.business
        if business is not None and self._limits(peer) != (NO_LIMITS, NO_LIMITS):
            business = await self._meant(peer, business)
        self._require_pull(peer, kind, business, request)
        return await self._make(peer, kind, business, request, report)

    async def _meant(self, peer: Peer, wanted: str) -> str:
        """The ID of the business that a limited peer means. What is said of a mistake names none that it may not know
        of."""
        own = self._own_limits()
        found = await businesses(self._workspace)
        with suppress(BusinessError):
            return find_business(found, wanted).id
        return find_business(tuple(each for each in found if may_see(peer.limits, own, each.id)), wanted).id

    def _require_pull(self, peer: Peer, kind: Kind, business: str | None, request: PullRequest) -> None:
        """Raise :class:`NotAllowed` unless the peer may have that business, called as it was asked for: a refusal tells
        nobody the name of another one."""
        what = request.business or f"a {kind.value} backup"
        require_pull(self._workspace.store.roster(), peer.node_id, self._own_node, kind, business, what)

    async def _held(self, peer: Peer, kind: Kind, bundle_id: str) -> BackupRecord | None:
        """A bundle that is here and that the peer may have: made for it by a pull, or of a device that is its own to
        restore."""
        known = await self._history.backup(bundle_id)
        if known is None or known.kind != kind.value or known.removed_at is not None:
            return None
        business = known.business_id if kind is Kind.BUSINESS else None
        what = known.business_name or f"a {kind.value} backup"
        if known.source_node == self._own_node:
            made = await self._history.transfers(direction="sent", bundle_id=bundle_id, peer=peer.node_id, limit=1)
            if made and made[0].mode == "pull":
                require_pull(self._workspace.store.roster(), peer.node_id, self._own_node, kind, business, what)
                return known
            return None
        require_source(peer, known.source_node)
        require(peer.name, peer.limits, Right.TAKE, business, what)
        require(self._workspace.config.device_name(), self._own_limits(), Right.GIVE, business, what)
        return known

    def _is_there(self, known: BackupRecord, path: Path) -> bool:
        """Whether the file is the bundle whose business was held against the limits: its name proves nothing.
        Blocking."""
        manifest = manifest_of(path, self._workspace.bundle_files.open) if path.is_file() else None
        if manifest is None:
            return False
        business = manifest.business.id if manifest.business is not None else None
        return (manifest.bundle_id, business) == (known.id, known.business_id)

    async def _make(
        self, peer: Peer, kind: Kind, business: str | None, request: PullRequest, report: Report
    ) -> Prepared:
        """A new backup. One that turns out not to be the peer's to have stays in the archive."""

        def progress(step: Step) -> None:
            report("applying", step.done, step.total, step.stage)

        transfer = TransferRecord(
            id=f"pull-{peer.node_id[5:13]}-{utc_now():%Y%m%d%H%M%S%f}",
            direction="sent",
            mode="pull",
            kind=kind.value,
            peer_node=peer.node_id,
            peer_name=peer.name,
            state="started",
            started_at=utc_now(),
        )
        await self._history.start_transfer(transfer)
        try:
            made = await make_backup(
                self._workspace,
                self._history,
                BackupRequest(
                    kind,
                    business,
                    compress=request.compress,
                    include_demo=request.include_demo,
                    target_node=peer.node_id,
                ),
                progress=progress,
            )
            # Names and limits may be others by now: what counts is what is in it.
            of = made.result.manifest.business
            self._require_pull(peer, kind, of.id if of is not None else None, request)
        except Exception as error:
            await self._history.end_transfer(
                transfer.id, FAILED, error_code=str(getattr(error, "code", "unexpected")), error=str(error)
            )
            raise
        await self._history.end_transfer(transfer.id, DONE, bundle_id=made.record.id, bytes_done=made.record.size)
        log.info("backup made for a pull", peer=peer.name, kind=kind.value, bundle=made.record.id)
        return await self._prepared(made.file, made.record.id)

    async def _prepared(self, path: Path, bundle_id: str) -> Prepared:
        """The bundle as peers get it: without the seal of the archive, over TLS."""
        opener = self._workspace.bundle_files.open
        return Prepared(path, bundle_id, await asyncio.to_thread(size_of, path, opener), opener=opener)

    async def businesses(self, peer: Peer) -> BusinessList:
        """The businesses of this laptop's database that the peer may take from here or offer to here.

        One that is here in name only is not told: there is nothing of it to take.
        """
        own = self._own_limits()
        known, names = await businesses_here(self._workspace)
        found = [each for each in known if each.id not in names and may_see(peer.limits, own, each.id)]
        return BusinessList(tuple(BusinessItem(b.id, b.name, b.slug, b.is_demo) for b in found))

    async def mark(self) -> TableMark:
        """The mark of this laptop's tables. It tells nobody what changed, nor in which business."""
        return await self._marker.now()

    def require_compare(self, peer: Peer, business: str) -> None:
        """Raise :class:`NotAllowed` unless the peer may know what is in this business."""
        require_compare(peer.name, peer.limits, self._own_limits(), business)

    def _own_limits(self) -> Limits:
        return self._workspace.store.roster().require(self._own_node).limits

    def _limits(self, peer: Peer) -> tuple[Limits, Limits]:
        return peer.limits, self._own_limits()
