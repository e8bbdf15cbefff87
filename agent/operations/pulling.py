"""Pulling backups from another laptop into this one's archive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.engine.progress import Progress, silent
from agent.operations.fetching import Wanted, WrongBundle, fetch
from agent.operations.network import network
from agent.operations.rights import require_pull
from agent.operations.targets import other_device
from agent.operations.workspace import Workspace
from certs.roster import Member
from protocol.manifest import Kind, Manifest
from protocol.requests import PullKind, PullRequest

_PULLS: dict[Kind, PullKind] = {
    Kind.BUSINESS: "business-specific",
    Kind.FULL: "full",
    Kind.FULL_DEVICE: "full-device",
}


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
    business_name: str | None = None,
    include_demo: bool = False,
    compress: bool = True,
    progress: Progress = silent,
) -> PullDone:
    """Have another laptop make a backup and keep it in this one's archive. Nothing is restored.

    ``business`` is its ID or name; ``business_name`` is what the history calls it until the bundle tells.

    Raises ``TrustError``, ``PeerError``, ``BundleError`` and :class:`WrongBundle`.
    """
    member = other_device(workspace, device)
    workspace.clones.require_clear(member.node_id)
    own = workspace.store.identity().node_id
    started = asyncio.get_running_loop().time()

    def accept(manifest: Manifest) -> None:
        if manifest.source_node != member.node_id or manifest.kind is not kind:
            raise WrongBundle(f"{member.name} sent another bundle than the one that was asked for.")
        which, what = (manifest.business.id, manifest.business.name) if manifest.business else (None, kind.value)
        require_pull(workspace.store.roster(), own, member.node_id, kind, which, what)

    request = PullRequest(_PULLS[kind], business, include_demo=include_demo, compress=compress)
    wanted = Wanted(member, member, request, accept, business_name=business_name or business)
    async with network(workspace) as net:
        manifest, record, path = await fetch(workspace, history, net, wanted, progress)
    return PullDone(member, manifest, record, path, asyncio.get_running_loop().time() - started)
