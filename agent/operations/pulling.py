"""Pulling backups from another laptop into this one's archive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.archive.history import History, new_id
from agent.archive.records import DONE, FAILED, INTERRUPTED, REFUSED, BackupRecord, TransferRecord
from agent.archive.spool import Incoming, Spool
from agent.engine.bundle_file import verify_bundle
from agent.engine.progress import Progress, silent
from agent.operations.backups import backup_record
from agent.operations.errors import OperationError
from agent.operations.network import network
from agent.operations.rights import require_pull
from agent.operations.transfers import other_device, telling
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import PeerError, Refused
from agent.peers.handler import Part
from certs.identity import verify_signature
from certs.roster import Member
from protocol.manifest import Kind, Manifest
from protocol.names import bundle_name
from protocol.requests import PullKind, PullRequest

_PULLS: dict[Kind, PullKind] = {
    Kind.BUSINESS: "business-specific",
    Kind.FULL: "full",
    Kind.FULL_DEVICE: "full-device",
}


class WrongBundle(OperationError):
    code = "wrong-bundle"
    hint = "Nothing was kept. Try again; if it happens again, look at the other laptop's log."


@dataclass(frozen=True, slots=True)
class PullDone:
    """A pulled backup, verified and in the archive."""

    member: Member
    manifest: Manifest
    record: BackupRecord
    file: Path
    seconds: float

    def as_dict(self) -> dict[str, object]:
        manifest = self.manifest
        return {
            "device": {"node_id": self.member.node_id, "name": self.member.name},
            "kind": manifest.kind.value,
            "bundle_id": manifest.bundle_id,
            "file": str(self.file),
            "business": {"id": manifest.business.id, "name": manifest.business.name} if manifest.business else None,
            "created": manifest.created,
            "tables": manifest.table_count,
            "rows": manifest.total_rows,
            "bytes": self.record.size,
            "seconds": round(self.seconds, 3),
            "warnings": list(manifest.warnings),
        }


async def pull(
    workspace: Workspace,
    history: History,
    device: str,
    kind: Kind,
    *,
    business: str | None = None,
    include_demo: bool = False,
    compress: bool = True,
    progress: Progress = silent,
) -> PullDone:
    """Have another laptop make a backup and keep it in this one's archive. Nothing is restored.

    Raises ``TrustError``, ``PeerError``, ``BundleError`` and :class:`WrongBundle`.
    """
    member = other_device(workspace, device)
    workspace.clones.require_clear(member.node_id)
    own = workspace.store.identity().node_id
    started = asyncio.get_running_loop().time()
    transfer = await history.start_transfer(
        TransferRecord(
            id=new_id(),
            direction="received",
            mode="pull",
            kind=kind.value,
            peer_node=member.node_id,
            peer_name=member.name,
            state="started",
            started_at=utc_now(),
            business_name=business,
        )
    )
    spool = Spool(workspace.home)

    def part_for(bundle_id: str, size: int) -> Part:
        return spool.open(bundle_id, size)

    def accept(manifest: Manifest) -> None:
        if manifest.source_node != member.node_id or manifest.kind is not kind:
            raise WrongBundle(f"{member.name} sent another bundle than the one that was asked for.")
        which, what = (manifest.business.id, manifest.business.name) if manifest.business else (None, kind.value)
        require_pull(workspace.store.roster(), own, member.node_id, kind, which, what)

    request = PullRequest(_PULLS[kind], business, include_demo=include_demo, compress=compress)
    try:
        async with network(workspace) as net:
            fetched = await net.client.pull(member.node_id, request, part_for, accept=accept, tell=telling(progress))
        part = fetched.part
        assert isinstance(part, Incoming)
        try:
            bundle = await verify_bundle(part.path, verify_signature)
            if bundle.signer != member.node_id:
                raise WrongBundle(f"{member.name} sent a bundle that another device made.")
            checksum = await workspace.archive.checksum(part.path)
            path = await part.promote(workspace.archive, kind.value, bundle_name(bundle.manifest))
        finally:
            await part.close()
    except BaseException as error:
        state = INTERRUPTED if isinstance(error, (PeerError, asyncio.CancelledError, KeyboardInterrupt)) else FAILED
        await history.end_transfer(
            transfer.id,
            REFUSED if isinstance(error, Refused) else state,
            error_code=str(getattr(error, "code", "stopped")),
            error=str(error) or "The pull was stopped.",
        )
        raise
    record = await history.add_backup(
        backup_record(
            workspace,
            bundle.manifest,
            path,
            size=bundle.size,
            raw_size=bundle.seal.raw_bytes,
            checksum=checksum,
            came="pulled",
        )
    )
    await history.end_transfer(transfer.id, DONE, bundle_id=record.id, bytes_done=bundle.size)
    return PullDone(member, bundle.manifest, record, path, asyncio.get_running_loop().time() - started)
