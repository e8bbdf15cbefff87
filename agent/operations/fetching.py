"""Fetching a backup that another laptop makes or holds, verified, into this one's archive, with its record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.archive.history import History, new_id
from agent.archive.incoming import Incoming
from agent.archive.records import DONE, FAILED, INTERRUPTED, REFUSED, BackupRecord, TransferRecord
from agent.archive.spool import Spool
from agent.engine.bundle_file import verify_bundle
from agent.engine.progress import Progress
from agent.operations.backups import record_of_file
from agent.operations.errors import OperationError
from agent.operations.handing import telling
from agent.operations.network import Network
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import PeerError, Refused
from agent.peers.handler import Part
from certs.identity import verify_signature
from certs.roster import Member
from protocol.manifest import Manifest
from protocol.names import bundle_name
from protocol.requests import PullRequest


class WrongBundle(OperationError):
    code = "wrong-bundle"
    hint = "Nothing was kept. Try again; if it happens again, look at the other laptop's log."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask ``holder`` for. The bundle must be made by ``maker``; ``accept`` looks at its manifest and raises."""

    holder: Member
    maker: Member
    request: PullRequest
    accept: Callable[[Manifest], None]
    business_id: str | None = None
    business_name: str | None = None


async def fetch(
    workspace: Workspace, history: History, net: Network, wanted: Wanted, progress: Progress
) -> tuple[Manifest, BackupRecord, Path]:
    """Fetch it, verify it, keep it. A transfer that ends in any way is in the history.

    Raises ``PeerError``, ``BundleError``, :class:`WrongBundle` and what ``wanted.accept`` raises.
    """
    holder, request = wanted.holder, wanted.request
    transfer = await history.start_transfer(
        TransferRecord(
            id=new_id(),
            direction="received",
            mode="pull",
            kind=request.kind,
            peer_node=holder.node_id,
            peer_name=holder.name,
            state="started",
            started_at=utc_now(),
            bundle_id=request.bundle_id,
            business_id=wanted.business_id,
            business_name=wanted.business_name,
        )
    )
    spool = Spool(workspace.home)

    def part_for(bundle_id: str, size: int) -> Part:
        return spool.open(bundle_id, size)

    try:
        fetched = await net.client.pull(holder.node_id, request, part_for, accept=wanted.accept, tell=telling(progress))
        part = fetched.part
        assert isinstance(part, Incoming)
        try:
            bundle = await verify_bundle(part.path, verify_signature)
            if bundle.signer != wanted.maker.node_id:
                raise WrongBundle(f"{holder.name} sent a bundle that {wanted.maker.name} did not make.")
            path = await part.promote(workspace.archive, bundle.manifest.kind.value, bundle_name(bundle.manifest))
        finally:
            await part.close()
        record = await history.add_backup(
            await record_of_file(workspace, bundle.manifest, path, raw_size=bundle.seal.raw_bytes, came="pulled")
        )
    except BaseException as error:
        state = INTERRUPTED if isinstance(error, (PeerError, asyncio.CancelledError, KeyboardInterrupt)) else FAILED
        await history.end_transfer(
            transfer.id,
            REFUSED if isinstance(error, Refused) else state,
            error_code=str(getattr(error, "code", "stopped")),
            error=str(error) or "The pull was stopped.",
        )
        raise
    # What was asked for may have been an ID, or a name in other letters: the bundle knows both.
    await history.end_transfer(
        transfer.id,
        DONE,
        bundle_id=record.id,
        bytes_done=bundle.size,
        business_id=record.business_id,
        business_name=record.business_name,
    )
    return bundle.manifest, record, path
