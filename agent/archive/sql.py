"""The history's tables and the SQL for them: texts that SQLite, PostgreSQL and MySQL read alike.

A table's columns are the fields of its record (held by a test). Names stand in double quotes and values as question
marks; times are kept as UTC without zone and mappings as JSON, since SQLite has neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from agent.archive.errors import HistoryError
from agent.archive.records import BackupRecord, DrillRecord, RestoreRecord, RunRecord, TransferRecord

Record = TypeVar("Record", BackupRecord, TransferRecord, RestoreRecord, DrillRecord, RunRecord)
_ALL = 1 << 62  # rows: more than there are, for an OFFSET without a LIMIT


class Sql(NamedTuple):
    """A statement or a condition, and the values for its question marks."""

    text: str
    values: tuple[object, ...] = ()


class Table(Generic[Record]):
    """A table of the history; ``of`` is one row of it."""

    def __init__(self, name: str, record: type[Record]) -> None:
        self.name = name
        self.of: type[Record] = record
        self._kinds = {field.name: str(field.type).removesuffix(" | None") for field in fields(record)}

    def insert(self, record: Record) -> Sql:
        """A new row."""
        marks = ", ".join("?" for _ in self._kinds)
        return Sql(
            f'INSERT INTO "{self.name}" ({_listed(self._kinds)}) VALUES ({marks})',
            tuple(_kept(getattr(record, name)) for name in self._kinds),
        )

    def update(self, changes: Mapping[str, object], *conditions: Sql) -> Sql:
        """Changes, by column, of all rows that meet the conditions."""
        where = _where(conditions)
        changed = ", ".join(f'"{name}" = ?' for name in changes)
        values = tuple(_kept(value) for value in changes.values())
        return Sql(f'UPDATE "{self.name}" SET {changed}{where.text}', values + where.values)

    def delete(self, *conditions: Sql) -> Sql:
        """All rows that meet the conditions, away."""
        where = _where(conditions)
        return Sql(f'DELETE FROM "{self.name}"{where.text}', where.values)

    def select(self, *conditions: Sql, newest: str, limit: int | None = None, offset: int = 0) -> Sql:
        """The rows that meet the conditions, the newest by that column first, as :meth:`records` reads them."""
        where = _where(conditions)
        cut = "" if limit is None and not offset else f" LIMIT {_ALL if limit is None else limit} OFFSET {offset}"
        text = f'SELECT {_listed(self._kinds)} FROM "{self.name}"{where.text} ORDER BY "{newest}" DESC, "id"{cut}'
        return Sql(text, where.values)

    def records(self, rows: Iterable[Sequence[Any]]) -> tuple[Record, ...]:
        """Rows of :meth:`select` as records."""
        kinds = self._kinds.items()
        return tuple(
            self.of(**{name: _read(kind, value) for (name, kind), value in zip(kinds, row, strict=True)})
            for row in rows
        )


backups = Table("backups", BackupRecord)
transfers = Table("transfers", TransferRecord)
restores = Table("restores", RestoreRecord)
drills = Table("drills", DrillRecord)
runs = Table("runs", RunRecord)


def is_(column: str, value: object) -> Sql:
    """The condition that a column is ``value``, ``None`` included."""
    return Sql(f'"{column}" IS NULL') if value is None else Sql(f'"{column}" = ?', (_kept(value),))


def is_not(column: str, value: object) -> Sql:
    """The condition that a column is not ``value``, ``None`` included."""
    return Sql(f'"{column}" IS NOT NULL') if value is None else Sql(f'"{column}" <> ?', (_kept(value),))


def equal(column: str, value: object) -> list[Sql]:
    """The condition that a column is ``value``, or one of a tuple's; none for ``None``."""
    if isinstance(value, tuple):
        return [among(column, value)]
    return [] if value is None else [is_(column, value)]


def either(column: str, other: str, value: str | None) -> list[Sql]:
    """The condition that one of two columns (an ID and a name) is ``value``; none for ``None``."""
    return [] if value is None else [Sql(f'("{column}" = ? OR "{other}" = ?)', (value, value))]


def between(column: str, since: datetime | None, until: datetime | None) -> list[Sql]:
    """The conditions that ``since`` <= column < ``until``, as far as given."""
    given = ((">=", since), ("<", until))
    return [Sql(f'"{column}" {sign} ?', (_kept(value),)) for sign, value in given if value is not None]


def among(column: str, values: Sequence[str]) -> Sql:
    """The condition that a column is one of the values; true of no row where there are none."""
    return Sql(f'"{column}" IN ({", ".join("?" for _ in values) or "NULL"})', tuple(values))


def starts(column: str, text: str) -> Sql:
    """The condition that a column begins with ``text``."""
    return Sql(f"\"{column}\" LIKE ? ESCAPE '/'", (f"{_literally(text)}%",))


def contains(columns: Sequence[str], word: str) -> Sql:
    """The condition that ``word`` is somewhere in one of the columns, capitals aside."""
    found = (f"lower(\"{column}\") LIKE lower(?) ESCAPE '/'" for column in columns)
    return Sql(f"({' OR '.join(found)})", (f"%{_literally(word)}%",) * len(columns))


def moment(value: Any) -> datetime:
    """A time as the database has it: UTC-aware."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _where(conditions: Sequence[Sql]) -> Sql:
    if not conditions:
        return Sql("")
    values = tuple(value for condition in conditions for value in condition.values)
    return Sql(" WHERE " + " AND ".join(condition.text for condition in conditions), values)


def _literally(text: str) -> str:
    """``text`` as a pattern of LIKE that it alone fits."""
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _kept(value: object) -> object:
    """A field's value as a column's. Times may be in any zone; one without is an error."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise HistoryError(f"The history cannot note {value}: it has no time zone.")
        return value.astimezone(UTC).replace(tzinfo=None)
    return json.dumps(dict(value)) if isinstance(value, Mapping) else value


def _read(kind: str, value: Any) -> Any:
    """A column's value as a field's."""
    if value is None:
        return None
    if kind == "datetime":
        return moment(value)
    if kind == "bool":
        return bool(value)
    # Some drivers read JSON themselves.
    return json.loads(value) if kind.startswith("Mapping") and isinstance(value, str) else value
