"""What the history remembers, as frozen values. Times are UTC-aware; sizes are bytes; IDs are text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

# States of transfers and restores. "started" and "running" are of living processes only: see History.open.
STARTED, RUNNING, INTERRUPTED, DONE, APPLIED, PLANNED, FAILED, REFUSED = (
    "started",
    "running",
    "interrupted",
    "done",
    "applied",
    "planned",
    "failed",
    "refused",
)
PASSED = "passed"


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """One bundle that this laptop made or received.

    ``id`` is the bundle ID; ``path`` as ``Archive.stored_path`` gives it; ``kind`` the bundle's kind; ``origin`` how
    it came (``made``, ``received``, ``pulled``, ``undo``, ``imported``); ``size`` of the file and ``raw_size`` of the
    rows before compression; ``checksum`` the file's SHA-256; ``options`` what the backup was asked for; the fields
    from ``notes`` on are noted later, by :meth:`History.change_backup`. ``verified_at`` is the last time that the
    file held, ``damage`` what did not hold at ``damaged_at`` (both cleared when it holds again); ``removed_at`` says
    when retention moved the file to the trash, ``removed_why`` by which rule.
    """

    id: str
    filename: str
    path: str
    kind: str
    created_at: datetime
    created_by: str
    source_node: str
    source_device: str
    size: int
    raw_size: int
    records: int
    tables: int
    checksum: str
    schema_fingerprint: str = ""
    business_id: str | None = None
    business_name: str | None = None
    origin: str = "made"
    options: Mapping[str, object] = field(default_factory=dict)
    recorded_at: datetime | None = None
    notes: str | None = None
    pinned: bool = False
    verified_at: datetime | None = None
    downloaded_at: datetime | None = None
    emailed_to: str | None = None
    emailed_at: datetime | None = None
    network_path: str | None = None
    network_copied_at: datetime | None = None
    cloud_location: str | None = None
    cloud_copied_at: datetime | None = None
    damaged_at: datetime | None = None
    damage: str | None = None
    removed_at: datetime | None = None
    removed_why: str | None = None


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """One push or pull, on either side.

    ``direction``: ``sent`` or ``received``; ``mode``: ``push``, ``pull`` or ``look`` (a push that was only planned over
    there); ``kind``: of the bundle; ``state``: ``started``, ``interrupted``, ``done``, ``failed``, ``refused``.
    ``receipt`` are the signed bytes, ``totals`` what they say in rows.
    """

    id: str
    direction: str
    mode: str
    kind: str
    peer_node: str
    peer_name: str
    state: str
    started_at: datetime
    bundle_id: str | None = None
    business_id: str | None = None
    business_name: str | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    ended_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    receipt: bytes | None = None
    totals: Mapping[str, int] = field(default_factory=dict)
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """One restore or plan.

    ``mode``: which row wins (``newer``, ``bundle``, ``local``); ``state``: ``running``, ``planned``, ``applied``,
    ``failed``, ``refused``, ``interrupted``; ``counts``: rows in all (``inserted``, ``updated`` ...); ``approver``:
    who said yes; ``undo_path``: the bundle of the rows as they were, as ``Archive.stored_path`` gives it;
    ``transaction``: the database's id of the transaction that it is done in.
    """

    id: str
    bundle_id: str
    file: str
    kind: str
    mode: str
    state: str
    started_at: datetime
    source_node: str | None = None
    source_device: str | None = None
    business_id: str | None = None
    business_name: str | None = None
    transfer_id: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None
    approver: str | None = None
    error_code: str | None = None
    error: str | None = None
    plan_digest: str | None = None
    undo_path: str | None = None
    transaction: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """One try to restore a bundle into a scratch database.

    ``state``: ``running``, ``passed``, ``failed``, ``interrupted``; ``rows`` and ``tables`` compared; ``place``: where
    the scratch database was (``embedded`` or a database's address without its password).
    """

    id: str
    bundle_id: str
    kind: str
    state: str
    started_at: datetime
    source_node: str | None = None
    source_device: str | None = None
    business_id: str | None = None
    business_name: str | None = None
    place: str = ""
    rows: int = 0
    tables: int = 0
    ended_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of an entry of the schedule.

    ``entry`` is its name, ``task`` what it does; ``slot`` the time that it was due for, None where a person started it
    or a device came online; ``state``: ``running``, ``done``, ``failed``, ``interrupted``.
    """

    id: str
    entry: str
    task: str
    state: str
    started_at: datetime
    slot: datetime | None = None
    ended_at: datetime | None = None
    detail: str | None = None
    error_code: str | None = None
    error: str | None = None
    owner: str | None = None
