"""What a restore will do, counted before it does it, and what it did. Plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from agent.engine.known import Known
from protocol.manifest import BusinessRef, Kind, Manifest


@dataclass(frozen=True, slots=True)
class TableCounts:
    """Rows of one table of the bundle by what becomes of them.

    ``insert``: not here yet (stubs included). ``update``: here, and the bundle's row wins. ``unchanged``: equal.
    ``kept``: different, and the row here wins. ``stub``: a row of another business that is here already, not touched.
    ``delete``: rows here that go. Of the rows to insert or update, ``undated`` win without a usable timestamp and
    ``duplicate`` would collide with another row here. ``reidentified``: rows here that take the bundle's id, whatever
    else becomes of them. ``left_out``: rows of the bundle that were to stay out, or that need such a row.
    """

    insert: int = 0
    update: int = 0
    unchanged: int = 0
    kept: int = 0
    delete: int = 0
    stub: int = 0
    undated: int = 0
    duplicate: int = 0
    reidentified: int = 0
    left_out: int = 0

    @property
    def rows(self) -> int:
        """Rows of the bundle that are counted here."""
        return self.insert + self.update + self.unchanged + self.kept + self.stub + self.left_out

    @property
    def changes(self) -> int:
        """Writes to rows here; a row that takes another id and other content counts twice."""
        return self.insert + self.update + self.delete + self.reidentified

    def __add__(self, other: TableCounts) -> TableCounts:
        return TableCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Rows of the bundle that would collide with other rows here on one unique key.

    ``examples`` pair the identity of the bundle's row with that of the row here, as text.
    """

    table: str
    key: str
    columns: tuple[str, ...]
    rows: int
    examples: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        what = ", ".join(self.columns) or self.key
        pairs = "; ".join(f"{theirs} in the bundle, {ours} here" for theirs, ours in self.examples[:2])
        return f"{self.table}: {self.rows} with the same {what} as another row here ({pairs})"


@dataclass(frozen=True, slots=True)
class Reidentified:
    """Rows here that are the same thing as rows of the bundle and take their ids. ``examples``: old and new id."""

    table: str
    rows: int
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unclear:
    """Rows of the bundle that meet several rows here, or one whose new id another row has. ``examples`` pair the id in
    the bundle with one here."""

    table: str
    rows: int
    examples: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        pairs = "; ".join(f"{theirs} in the bundle, {ours} here" for theirs, ours in self.examples[:4])
        return f"{self.table}: {self.rows} of which it is not clear which row here they are ({pairs})"


@dataclass(frozen=True, slots=True)
class Deleted:
    """Rows here that go, since the bundle lacks them. ``examples`` are their keys, as text."""

    table: str
    rows: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A row of the bundle that gets another number, since its own is another row's here."""

    table: str
    row: str
    column: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.table}: {self.old} becomes {self.new} in {self.column}"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Inactive rows of a device table, made here because rows of the bundle require one."""

    table: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Dequeued:
    """Rows of a queue of this laptop that wait to tell of rows as they were before: they go."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """References to rows that stay out (another laptop's device rows, rows left out): they become NULL."""

    table: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Rows of the bundle that are left out, and why."""

    table: str
    rows: int
    why: str

    def __str__(self) -> str:
        return f"{self.table}: {self.rows} rows left out, {self.why}"


@dataclass(frozen=True, slots=True)
class ColumnExample:
    """A column that differs: its value in the bundle and here, as text; None for NULL and for a row not here."""

    column: str
    bundle: str | None
    here: str | None


@dataclass(frozen=True, slots=True)
class RowExample:
    """One row: what becomes of it ("insert", "update", "undated", "kept"), its key, the columns that differ."""

    what: str
    key: str
    columns: tuple[ColumnExample, ...]


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore of this bundle into this database does, if nothing moves until then.

    ``digest`` names the plan: it covers the bundle, the policy, every count and the identity and present content of
    every row that is written. ``tables`` has every table of the bundle with rows, by SQL name.
    """

    bundle_id: str
    kind: Kind
    business: BusinessRef | None
    conflicts: str
    digest: str
    tables: Mapping[str, TableCounts]
    duplicates: tuple[Duplicate, ...] = ()
    placeholders: tuple[Placeholder, ...] = ()
    cleared: tuple[Cleared, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    examples: Mapping[str, tuple[RowExample, ...]] = field(default_factory=dict)
    dequeued: tuple[Dequeued, ...] = ()
    reidentified: tuple[Reidentified, ...] = ()
    unclear: tuple[Unclear, ...] = ()
    deleted: tuple[Deleted, ...] = ()
    renumbered: tuple[Renumbered, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> TableCounts:
        """The counts of all tables together."""
        return sum(self.tables.values(), TableCounts())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "bundle_id": self.bundle_id,
            "kind": self.kind.value,
            "business": None if self.business is None else asdict(self.business),
            "conflicts": self.conflicts,
            "plan": self.digest,
            **_totals(self.totals),
            "tables": {name: asdict(counts) for name, counts in self.tables.items()},
            "duplicates": [asdict(item) for item in self.duplicates],
            "placeholders": [asdict(item) for item in self.placeholders],
            "cleared": [asdict(item) for item in self.cleared],
            "skipped": [asdict(item) for item in self.skipped],
            "reidentified_rows": [asdict(item) for item in self.reidentified],
            "unclear": [asdict(item) for item in self.unclear],
            "deleted_rows": [asdict(item) for item in self.deleted],
            "renumbered": [asdict(item) for item in self.renumbered],
            "choices": dict(self.choices),
            "dequeued": [asdict(item) for item in self.dequeued],
            "warnings": list(self.warnings),
            **({"examples": _examples(self.examples)} if self.examples else {}),
        }


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did: exactly its plan, in one committed transaction. ``seconds`` is how long it took.

    ``undo`` is the manifest of its undo bundle, if one was wanted and anything changed. ``known`` is what the next
    restore of this business need not look at again, if it is told.
    """

    plan: RestorePlan
    seconds: float
    sequences: tuple[str, ...] = field(default=())
    undo: Manifest | None = None
    known: Known | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.plan.as_dict(), "sequences": list(self.sequences), "seconds": round(self.seconds, 3)}


def _examples(examples: Mapping[str, tuple[RowExample, ...]]) -> dict[str, Any]:
    return {name: [asdict(row) for row in rows] for name, rows in examples.items()}


def _totals(counts: TableCounts) -> dict[str, int]:
    return {
        "inserted": counts.insert,
        "updated": counts.update,
        "unchanged": counts.unchanged,
        "kept": counts.kept,
        "deleted": counts.delete,
        "stubs": counts.stub,
        "undated": counts.undated,
        "duplicates": counts.duplicate,
        "reidentified": counts.reidentified,
        "left_out": counts.left_out,
    }


def plan_digest(parts: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the canonical JSON of what a plan says."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
