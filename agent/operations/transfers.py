"""Pushing a business to another laptop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.archive.history import History
from agent.archive.records import INTERRUPTED, BackupRecord, TransferRecord
from agent.database.businesses import Business, find_business
from agent.engine.backup import BackupRequest
from agent.engine.progress import Progress, silent
from agent.growing import Growing
from agent.log import get_logger
from agent.operations.backups import BackupMade, make_backup
from agent.operations.handing import BROKE_OFF, hand_over, opening_network, push_record
from agent.operations.look import businesses
from agent.operations.requests import LIFETIME, WAITS, PushMode
from agent.operations.rights import require_push
from agent.operations.targets import other_device
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import Refused
from certs.roster import Member
from protocol.manifest import Kind, Manifest
from protocol.messages import Receipt

if TYPE_CHECKING:
    from agent.peers.push import Pushed

log = get_logger(__name__)

RESUME_WITHIN = timedelta(hours=1)
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PushDone:
    """A push with its receipt. ``resumed`` says that a bundle of an earlier, interrupted push was finished."""

    member: Member
    backup: BackupRecord
    file: Path
    receipt: Receipt
    sent: int
    resumed: bool
    seconds: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        totals = self.receipt.totals
        return {
            "outcome": self.receipt.outcome,
            "device": {"node_id": self.member.node_id, "name": self.member.name},
            "business": {"id": self.backup.business_id, "name": self.backup.business_name},
            "kind": self.backup.kind,
            "bundle_id": self.backup.id,
            "file": str(self.file),
            "rows": self.backup.records,
            "bytes": self.backup.size,
            "bytes_sent": self.sent,
            "resumed": self.resumed,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            **{name: totals.get(name, 0) for name in ("inserted", "updated", "unchanged", "kept", "deleted")},
            "tables": {name: dict(counts) for name, counts in self.receipt.tables.items()},
            "receipt": {
                "receiver": self.receipt.receiver_name,
                "receiver_node": self.receipt.receiver_node,
                "at": self.receipt.at,
                "message": self.receipt.message,
            },
        }


async def push(
    workspace: Workspace,
    history: History,
    business: str,
    device: str,
    *,
    compress: bool = True,
    fresh: bool = False,
    mode: PushMode = "newer",
    patience: float = WAIT_SECONDS,
    space_seconds: float = 0.0,
    progress: Progress = silent,
) -> PushDone:
    """Push a business: back it up, hand it over, wait for the signed receipt.

    A push of the same business to the same device that was interrupted within the last hour is finished first (its
    bytes over there are not sent again), then the business is pushed as it is now; ``fresh`` leaves the old one.
    With the ``mode`` "bundle" its rows win over there, once somebody there has said yes, which is waited for as long as
    ``patience`` (seconds); a push that waited is finished by the next one, and nothing is pushed anew then. Where the
    other disk is full it waits for ``space_seconds``.
    Raises ``TrustError``, ``PeerError``, :class:`PushRefused`, and what a backup raises.
    """
    member = other_device(workspace, device)
    chosen = find_business(await businesses(workspace), business)
    workspace.clones.require_clear(member.node_id)
    own = workspace.store.identity().node_id
    require_push(workspace.store.roster(), own, member.node_id, chosen.id, chosen.name)
    await history.mark_interrupted()
    resumed = False
    sent = 0
    started = asyncio.get_running_loop().time()
    if not fresh and (left := await _interrupted(workspace, history, chosen, member, mode)) is not None:
        transfer, record, path, waited = left
        going_on = partial(
            hand_over,
            workspace,
            history,
            member,
            transfer,
            path,
            patience=patience,
            space_seconds=space_seconds,
        )
        try:
            done = await going_on(mode=mode, progress=progress, resumes=not waited)
            if waited:
                took = asyncio.get_running_loop().time() - started
                return PushDone(member, record, path, done.receipt, done.sent, True, took, ())
            resumed, sent = True, done.sent
        except Refused as error:
            log.info("the interrupted push is left", bundle=record.id, reason=str(error))
    request = BackupRequest(Kind.BUSINESS, chosen.id, compress=compress, target_node=member.node_id)
    sending = partial(
        hand_over,
        workspace,
        history,
        member,
        mode=mode,
        patience=patience,
        space_seconds=space_seconds,
        progress=progress,
    )
    async with opening_network(workspace) as net:
        ready = partial(sending, net=net)
        made, pushed = await _push_while_made(workspace, history, request, member, chosen, ready, progress)
    return PushDone(
        member=member,
        backup=made.record,
        file=made.file,
        receipt=pushed.receipt,
        sent=sent + pushed.sent,
        resumed=resumed,
        seconds=asyncio.get_running_loop().time() - started,
        warnings=made.result.manifest.warnings,
    )


async def _push_while_made(
    workspace: Workspace,
    history: History,
    request: BackupRequest,
    member: Member,
    business: Business,
    sending: Callable[..., Awaitable[Pushed]],
    progress: Progress,
) -> tuple[BackupMade, Pushed]:
    """Back up, and send what there is of the bundle meanwhile; all of it afterwards where that cannot be.

    ``sending`` takes a transfer and its bundle. A push that fails does not keep the backup from being made.
    """
    pushes: dict[str, asyncio.Task[Pushed]] = {}

    def opened(manifest: Manifest, growing: Growing) -> None:
        push = push_record(manifest.bundle_id, None, member, business)

        async def send() -> Pushed:
            return await sending(await history.start_transfer(push), growing)

        pushes[push.id] = asyncio.create_task(send())

    try:
        made = await make_backup(workspace, history, request, opened=opened, progress=progress)
        if not pushes:
            push = push_record(made.record.id, made.record.size, member, business)
            return made, await sending(await history.start_transfer(push), made.file)
        transfer = list(pushes)[-1]
        await history.progress_transfer(transfer, None, made.record.size)
        return made, await pushes[transfer]
    finally:
        # Those of a bundle that was given up, or all if this is.
        for task in pushes.values():
            task.cancel()
        await asyncio.gather(*pushes.values(), return_exceptions=True)


async def push_made(
    workspace: Workspace,
    history: History,
    member: Member,
    business: Business,
    backup: BackupRecord,
    file: Path,
    *,
    mode: PushMode,
    patience: float,
    progress: Progress,
    warnings: tuple[str, ...],
    started: float,
    sent: int = 0,
) -> PushDone:
    """Push a bundle that is made, as a transfer of its own. ``started`` is when the push began, by the loop's clock;
    ``sent`` are bytes that it sent before. Raises what :func:`push` raises."""
    transfer = await history.start_transfer(push_record(backup.id, backup.size, member, business))
    pushed = await hand_over(
        workspace,
        history,
        member,
        transfer,
        file,
        mode=mode,
        patience=patience,
        progress=progress,
    )
    return PushDone(
        member=member,
        backup=backup,
        file=file,
        receipt=pushed.receipt,
        sent=sent + pushed.sent,
        resumed=False,
        seconds=asyncio.get_running_loop().time() - started,
        warnings=warnings,
    )


async def _interrupted(
    workspace: Workspace, history: History, business: Business, member: Member, mode: PushMode
) -> tuple[TransferRecord, BackupRecord, Path, bool] | None:
    """The newest push of this business to this device, where it broke off lately and its bundle is still here.

    The last value says that it waited for a yes: only that is taken up of pushes that ask, and by them alone.
    """
    latest = await history.transfers(direction="sent", mode="push", peer=member.node_id, business=business.id, limit=1)
    if not latest or latest[0].state != INTERRUPTED or latest[0].bundle_id is None:
        return None
    waited = latest[0].error_code == WAITS
    if waited != (mode != "newer") or latest[0].error_code == BROKE_OFF:
        return None
    if latest[0].started_at < utc_now() - (LIFETIME if waited else RESUME_WITHIN):
        return None
    record = await history.backup(latest[0].bundle_id)
    if record is None:
        return None
    path = workspace.archive.locate(record.path)
    if not await asyncio.to_thread(path.is_file):
        return None
    return await history.resume_transfer(latest[0].id), record, path, waited
