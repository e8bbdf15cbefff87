"""Pushing a business to another laptop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from agent.archive.history import History, new_id
from agent.archive.records import DONE, FAILED, INTERRUPTED, REFUSED, BackupRecord, TransferRecord
from agent.database.businesses import Business, find_business
from agent.engine.backup import BackupRequest
from agent.engine.progress import BYTES, Progress, Step, silent
from agent.log import get_logger
from agent.operations.approving import WAITS
from agent.operations.backups import make_backup
from agent.operations.deltas import sent_before
from agent.operations.errors import OperationError
from agent.operations.look import businesses
from agent.operations.network import Network, network
from agent.operations.requests import LIFETIME, PushMode
from agent.operations.rights import require_push
from agent.operations.standing import heed_cancel
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import Cancelled, Refused
from agent.peers.push import Pushed, Tell
from certs.roster import Member
from protocol.manifest import Kind
from protocol.messages import Receipt

log = get_logger(__name__)

SentMode = Literal["newer", "bundle", "store"]
NOTE_SECONDS = 2.0
RESUME_WITHIN = timedelta(hours=1)
WAIT_SECONDS = 60.0
MOVING = ("sending", "fetching")
BROKE_OFF = "broke-off"
"""The code of an interrupted push that asks: it is not taken up again, the next one asks anew."""


class WrongTarget(OperationError):
    code = "wrong-device"
    hint = "`backroom devices` lists the laptops of the shop."


class PushRefused(OperationError):
    """The other laptop has the bundle and said no; its words are the message."""

    code = "push-refused"
    hint = "The bundle is in the archive of both laptops. Nothing was changed over there."


class WaitsForYes(OperationError):
    """The bundle is over there; a person has to say yes before it is applied."""

    code = WAITS
    hint = "Run the same push again later: it then tells what came of it."


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


def other_device(workspace: Workspace, text: str) -> Member:
    """The active device that ``text`` names and that is not this one. Raises ``TrustError`` or :class:`WrongTarget`."""
    member = workspace.store.require_shop().roster.find(text)
    if member.node_id == workspace.store.identity().node_id:
        raise WrongTarget(f"{member.name} is this laptop.")
    if not member.active:
        raise WrongTarget(f"{member.name} ({member.short_id}) was revoked.")
    return member


def telling(progress: Progress) -> Callable[[str, int, int, str], None]:
    """The peer client's way of telling, as progress: what moves over the network is counted in bytes."""

    def tell(phase: str, done: int, total: int, text: str) -> None:
        if phase in MOVING:
            progress(Step(phase, done, total, unit=BYTES))  # the words are its rate, which the progress has anyway
        else:
            progress(Step(phase, done, total, text))

    return tell


def _patient(
    tell: Callable[[str, int, int, str], None], name: str, patience: float
) -> Callable[[str, int, int, str], None]:
    """``tell`` that does not wait for a person over there for longer than ``patience`` seconds."""
    since: float | None = None

    def told(phase: str, done: int, total: int, text: str) -> None:
        nonlocal since
        tell(phase, done, total, text)
        now = asyncio.get_running_loop().time()
        since = (since or now) if phase == "waiting" else None
        if since is not None and now - since >= patience:
            raise WaitsForYes(f"The bundle is on {name} and waits there {text}.")

    return told


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
            record,
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
    made = await make_backup(workspace, history, request, progress=progress)
    transfer = await history.start_transfer(push_record(made.record, member, chosen))
    pushed = await hand_over(
        workspace,
        history,
        member,
        transfer,
        made.record,
        made.file,
        mode=mode,
        patience=patience,
        space_seconds=space_seconds,
        progress=progress,
    )
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


def push_record(backup: BackupRecord, member: Member, business: Business) -> TransferRecord:
    """A push of this bundle to the device, as it begins."""
    return TransferRecord(
        id=new_id(),
        direction="sent",
        mode="push",
        kind=backup.kind,
        peer_node=member.node_id,
        peer_name=member.name,
        state="started",
        started_at=utc_now(),
        bundle_id=backup.id,
        business_id=business.id,
        business_name=business.name,
        bytes_total=backup.size,
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


async def hand_over(
    workspace: Workspace,
    history: History,
    member: Member,
    transfer: TransferRecord,
    record: BackupRecord,
    path: Path,
    *,
    mode: SentMode,
    patience: float,
    space_seconds: float = 0.0,
    progress: Progress,
    resumes: bool = False,
    net: Network | None = None,
) -> Pushed:
    """Send a bundle that is made, and note what came of it. ``net`` is a network that is there already."""
    tell = _patient(telling(progress), member.name, patience)
    try:
        async with nullcontext(net) if net is not None else network(workspace) as way:
            try:
                pushed = await _send(
                    workspace, history, way, member, transfer, path, mode=mode, tell=tell, space_seconds=space_seconds
                )
            except Refused as error:
                if error.code == WAITS:
                    raise WaitsForYes(str(error)) from error
                raise
    except (Refused, Cancelled) as error:
        await history.end_transfer(transfer.id, REFUSED, error_code=error.code, error=str(error))
        raise
    except BaseException as error:
        code = str(getattr(error, "code", "stopped"))
        await history.end_transfer(
            transfer.id,
            INTERRUPTED,
            error_code=code if mode == "newer" or code == WAITS else BROKE_OFF,
            error=str(error) or "The push was stopped.",
        )
        raise
    receipt = pushed.receipt
    state = {"applied": DONE, "stored": DONE, "refused": REFUSED}.get(receipt.outcome, FAILED)
    await history.end_transfer(
        transfer.id,
        state,
        bytes_done=record.size,
        receipt=pushed.signed.encode(),
        totals=receipt.totals,
        error_code=None if state == DONE else "push-refused",
        error=None if state == DONE else receipt.message,
    )
    if state != DONE and not resumes:
        raise PushRefused(f"{member.name} did not take it: {receipt.message}")
    return pushed


async def _send(
    workspace: Workspace,
    history: History,
    net: Network,
    member: Member,
    transfer: TransferRecord,
    path: Path,
    *,
    mode: SentMode,
    tell: Tell,
    space_seconds: float,
) -> Pushed:
    """Push, note now and then how far it is, and stop when `backroom cancel` says so."""
    dropped = asyncio.Event()
    sent = [0]

    def told(phase: str, done: int, total: int, text: str) -> None:
        if phase == "sending":
            sent[0] = done
        tell(phase, done, total, text)

    async def note() -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await history.progress_transfer(transfer.id, sent[0])

    def stop() -> None:
        dropped.set()
        pushing.cancel()

    bases = await sent_before(workspace, history, transfer)
    pushing = asyncio.create_task(
        net.client.push(
            member.node_id,
            path,
            mode=mode,
            tell=told,
            dropped=dropped,
            space_seconds=space_seconds,
            opener=workspace.bundle_files.open,
            bases=bases,
        )
    )
    beside = [asyncio.create_task(note()), asyncio.create_task(heed_cancel(workspace.home, transfer.id, stop))]
    try:
        return await pushing
    except asyncio.CancelledError:
        if dropped.is_set():
            raise Cancelled(f"The push to {member.name} was cancelled.") from None
        raise
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
