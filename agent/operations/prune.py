"""Throwing backups away by rule alone: what stays, what goes to the trash, what leaves it, each with its why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import INTERRUPTED, RUNNING, STARTED, BackupRecord
from agent.archive.retention import Copy, Rule, decide
from agent.archive.trash import FOLDER, throw_away, trash_path
from agent.config import Config
from agent.delivery.outbox import Outbox
from agent.engine.bundle_file import manifest_of
from agent.operations.care import follow_renames, look_over
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, person, utc_now
from agent.reading import Opener
from agent.sealing.errors import SealingError
from agent.zone import LOCAL
from protocol.manifest import Kind

RESUMABLE = timedelta(hours=12)  # in which an interrupted transfer may still go on
DAYS_SEEN = 3  # days on which pruning must have run since a bundle went to the trash, before it is deleted
KEPT_DAYS = 60
GONE_PATH = ""  # of a bundle whose file was deleted for good


@dataclass(frozen=True, slots=True)
class Item:
    """One backup and what becomes of it."""

    record: BackupRecord
    keep: bool
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        record = self.record
        return {
            "bundle_id": record.id,
            "file": record.filename,
            "kind": record.kind,
            "business": record.business_name,
            "device": record.source_device,
            "created": record.created_at,
            "bytes": record.size,
            "keep": self.keep,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """``items`` newest first; ``expired`` are those whose days in the trash are over; ``notes`` say what the rules
    leave alone because files and history do not fit."""

    items: tuple[Item, ...]
    expired: tuple[BackupRecord, ...]
    notes: tuple[str, ...]
    trash_days: int

    @property
    def removals(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if not item.keep)

    @property
    def bytes(self) -> int:
        """How much goes to the trash."""
        return sum(item.record.size for item in self.removals)

    def as_dict(self) -> dict[str, object]:
        return {
            "keep": sum(item.keep for item in self.items),
            "remove": len(self.removals),
            "remove_bytes": self.bytes,
            "expired": [record.id for record in self.expired],
            "trash_days": self.trash_days,
            "notes": list(self.notes),
            "items": [item.as_dict() for item in self.items],
        }


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done. ``left``: backups that were to go but were left where they are, and why."""

    plan: PrunePlan
    removed: tuple[BackupRecord, ...]
    deleted: tuple[BackupRecord, ...]
    left: tuple[tuple[BackupRecord, str], ...]

    def as_dict(self) -> dict[str, object]:
        return {
            **self.plan.as_dict(),
            "removed": [record.id for record in self.removed],
            "deleted": [record.id for record in self.deleted],
            "left": [{"bundle_id": record.id, "why": why} for record, why in self.left],
        }


def rules(config: Config) -> dict[str, Rule]:
    """The rules that the settings hold, by kind of bundle."""
    texts = {
        Kind.FULL: config.retention.full,
        Kind.BUSINESS: config.retention.business,
        Kind.FULL_DEVICE: config.retention.full_device,
    }
    return {kind.value: Rule.parse(text) for kind, text in texts.items()}


async def plan_prune(
    workspace: Workspace, history: History, *, now: datetime | None = None, zone: tzinfo = LOCAL
) -> PrunePlan:
    """What pruning would do now. Notes renamed files in the history and changes nothing else."""
    now = now or utc_now()
    seen = await follow_renames(workspace, history, await look_over(workspace, history))
    records = {record.id: record for record in seen.present if not Path(record.path).is_absolute()}
    using = {**await in_use(history, now), **await asyncio.to_thread(_waiting, workspace)}
    copies = [copy_of(record, using.get(record.id, "")) for record in records.values()]
    verdicts = decide(copies, now=now, zone=zone, rules=rules(workspace.config))
    days = workspace.config.retention.trash_days
    trashed = await history.trashed(f"{FOLDER}/")
    past = await asyncio.to_thread(_days_of_pruning, workspace)
    expired = [each for each in trashed if each.removed_at and _expired(each.removed_at, days, now, past)]
    notes = [
        *(f"{record.filename}: its file is gone; it counts for nothing" for record in seen.without_file),
        *(f"{path.name}: the history does not know it (`backroom archive rebuild`)" for path in seen.without_record),
        *(f"{path.name}: left alone. {problem}" for path, problem in seen.unreadable),
    ]
    items = (Item(records[verdict.copy.id], verdict.keep, verdict.reasons) for verdict in verdicts)
    return PrunePlan(tuple(items), tuple(expired), tuple(notes), days)


async def prune(workspace: Workspace, history: History, *, now: datetime | None = None, zone: tzinfo = LOCAL) -> Pruned:
    """Move to the trash what the rules let go, and delete what has been there long enough.

    Right before a file goes, its own head must say that it is the bundle that was decided on: a name proves nothing.
    One that would go as damaged is verified anew first, for what is whole never goes for that: it stays this time, and
    the next plan counts it. Raises ``HomeBusyError`` where another process prunes.
    """
    from agent.operations.verify import why_not_damaged  # only here: a plan must be quick

    with workspace.home.lock("prune"):
        await _finish_moves(workspace, history)
        plan = await plan_prune(workspace, history, now=now, zone=zone)
        moment = now or utc_now()
        await asyncio.to_thread(_note_day, workspace, moment)
        removed, left = [], []
        for item in plan.removals:
            problem = await why_not_damaged(workspace, history, item.record) if item.record.damaged_at else None
            problem = problem or await _throw_away(workspace, history, item, moment)
            if problem:
                left.append((item.record, problem))
            else:
                removed.append(item.record)
        for record in plan.expired:
            await workspace.archive.remove(workspace.archive.locate(record.path))
            await history.add_backup(replace(record, path=GONE_PATH))
        return Pruned(plan, tuple(removed), plan.expired, tuple(left))


class NotToTrash(OperationError):
    code = "not-to-trash"
    hint = "`backroom history` shows it."


async def to_trash(
    workspace: Workspace, history: History, record: BackupRecord, *, why: str | None = None
) -> BackupRecord:
    """Move one backup to the trash because somebody wants it; it can be taken back from there for some days.

    Raises :class:`NotToTrash` where it is pinned, at work, gone already or waits to be delivered.
    """
    with workspace.home.lock("prune"):
        now = utc_now()
        using = {**await in_use(history, now), **await asyncio.to_thread(_waiting, workspace)}
        if record.removed_at is not None:
            raise NotToTrash(f"{record.filename} is not in the archive any more.")
        if record.pinned:
            raise NotToTrash(f"{record.filename} is pinned.")
        if record.id in using:
            raise NotToTrash(f"{record.filename} is needed now: {using[record.id]}.")
        problem = await _throw_away(
            workspace, history, Item(record, False, (why or f"thrown away by {person()}",)), now
        )
        if problem:
            raise NotToTrash(f"{record.filename} stays: {problem}.")
        thrown = await history.backup(record.id)
        assert thrown is not None
        return thrown


async def in_use(history: History, now: datetime) -> Mapping[str, str]:
    """The bundles that something works with, by ID, and what that is."""
    using: dict[str, str] = {}
    for drill in await history.drills(state=RUNNING):
        using[drill.bundle_id] = "a drill"
    for restore in await history.restores(state=RUNNING):
        using[restore.bundle_id] = "a restore"
    transfers = [
        *await history.transfers(state=STARTED),
        *await history.transfers(state=INTERRUPTED, since=now - RESUMABLE),
    ]
    for transfer in transfers:
        if transfer.bundle_id is not None:
            using[transfer.bundle_id] = f"a {transfer.mode} with {transfer.peer_name}"
    return using


def _waiting(workspace: Workspace) -> dict[str, str]:
    """The bundles that wait in the queue of deliveries. A failed one may be tried again, so it counts too."""
    jobs = Outbox(workspace.home.state / "outbox").jobs()
    return {job.bundle_id: f"a delivery to {job.where}" for job in jobs if job.bundle_id is not None}


def _expired(removed: datetime, days: int, now: datetime, past: Sequence[date]) -> bool:
    """Whether a bundle's days in the trash are over, by the clock and by the days on which pruning ran since.

    A clock that jumps makes one such day, not a week.
    """
    since = {*(day for day in past if day > removed.date()), *({now.date()} if now.date() > removed.date() else ())}
    return removed + timedelta(days=days) <= now and len(since) >= min(days, DAYS_SEEN)


def _days_of_pruning(workspace: Workspace) -> tuple[date, ...]:
    """The last days on which pruning ran."""
    try:
        lines = (workspace.home.state / "prune-days").read_text(encoding="utf-8").split()
        return tuple(date.fromisoformat(line) for line in lines)
    except (OSError, ValueError):
        return ()


def _note_day(workspace: Workspace, now: datetime) -> None:
    days = dict.fromkeys((*_days_of_pruning(workspace), now.date()))
    path = workspace.home.state / "prune-days"
    temporary = path.with_name(".prune-days")
    temporary.write_text("\n".join(map(str, list(days)[-KEPT_DAYS:])), encoding="utf-8")
    temporary.replace(path)


def copy_of(record: BackupRecord, using: str = "") -> Copy:
    """What the rules look at, of a record."""
    return Copy(
        id=record.id,
        kind=record.kind,
        business_id=record.business_id,
        source_node=record.source_node,
        created=record.created_at,
        recorded=record.recorded_at or record.created_at,
        verified=record.verified_at is not None,
        damaged=record.damaged_at is not None,
        pinned=record.pinned,
        in_use=using,
        origin=record.origin,
    )


async def _throw_away(workspace: Workspace, history: History, item: Item, now: datetime) -> str | None:
    """Move one bundle to the trash. The record goes first: what a crash leaves between is finished by the next run."""
    record, archive = item.record, workspace.archive
    path = archive.locate(record.path)
    if not await asyncio.to_thread(_is_bundle_of, record, path, workspace.bundle_files.open):
        return "its file is not the bundle that the history means"
    target = trash_path(archive, record.id, record.filename)
    why = "; ".join(item.reasons)
    await history.add_backup(replace(record, path=archive.stored_path(target)))
    await history.change_backup(record.id, removed_at=now, removed_why=why)
    await throw_away(archive, path, target)
    return None


async def _finish_moves(workspace: Workspace, history: History) -> None:
    """Move what a run that was killed had noted as removed but not moved yet."""
    archive = workspace.archive
    for record in await history.trashed(f"{FOLDER}/"):
        target = archive.locate(record.path)
        path = archive.folder(record.kind) / record.filename
        if not await asyncio.to_thread(target.is_file) and await asyncio.to_thread(
            _is_bundle_of, record, path, workspace.bundle_files.open
        ):
            await throw_away(archive, path, target)


def _is_bundle_of(record: BackupRecord, path: Path, opener: Opener) -> bool:
    try:
        manifest = manifest_of(path, opener)
    except (OSError, SealingError):
        return False
    return manifest is not None and (manifest.bundle_id, manifest.created) == (record.id, record.created_at)
