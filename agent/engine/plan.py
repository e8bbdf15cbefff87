"""What a restore will do, counted before it does it, and what it did. Plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from protocol.manifest import BusinessRef, Kind, Manifest


@dataclass(frozen=True, slots=True)
class TableCounts:
    """Rows of one table of the bundle by what becomes of them.

    ``insert``: not here yet (stubs included). ``update``: here, and the bundle's row wins. ``unchanged``: equal.
    ``kept``: different, and the row here wins. ``stub``: a row of another business that is here already, not touched.
    ``delete``: rows here that go. Of the rows to insert or update, ``undated`` win without a usable timestamp and
    ``duplicate`` would collide with another row here.
    """

    insert: int = 0
    update: int = 0
    unchanged: int = 0
    kept: int = 0
    delete: int = 0
    stub: int = 0
    undated: int = 0
    duplicate: int = 0

    @property
    def rows(self) -> int:
        """Rows of the bundle that are counted here."""
        return self.insert + self.update + self.unchanged + self.kept + self.stub

    @property
    def changes(self) -> int:
        """Rows here that are written."""
        return self.insert + self.update + self.delete

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
class Placeholder:
    """Inactive rows of a device table, made here because rows of the bundle require one."""

    table: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """References to device rows that this laptop does not have: they become NULL in the inserted rows."""

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
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did: exactly its plan, in one committed transaction. ``seconds`` is how long it took.

    ``undo`` is the manifest of its undo bundle, if one was wanted and anything changed.
    """

    plan: RestorePlan
    seconds: float
    sequences: tuple[str, ...] = field(default=())
    undo: Manifest | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.plan.as_dict(), "sequences": list(self.sequences), "seconds": round(self.seconds, 3)}


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
    }


def plan_digest(parts: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the canonical JSON of what a plan says."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
