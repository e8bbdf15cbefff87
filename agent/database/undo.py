"""What a restore did, kept while it is done: rows as they were before, and the keys of new rows (FORMAT.md, "Undo").

Before-images are copied into temporary tables before the rows are written. What a row became is looked up at the end
(its mark), so that a later undo can tell whether somebody has changed it since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import asyncpg

from agent.database.names import column_list, literal, qualified, quote
from agent.database.scalars import scalars
from agent.tables.schema import Table

WHAT, MARK, NOW = "undo:what", "undo:mark", "undo:"


class Change(StrEnum):
    """What was done to a row."""

    INSERTED = "inserted"
    UPDATED = "updated"
    DELETED = "deleted"


def stored(table: Table) -> tuple[str, ...]:
    """The columns of an undo entry that are the table's own."""
    return tuple(column.name for column in table.stored_columns)


def undo_columns(table: Table) -> tuple[str, ...]:
    """All columns of an undo entry, in order."""
    return (WHAT, MARK, *(f"{NOW}{place}" for place, _ in enumerate(table.identity)), *stored(table))


def mark(table: Table, alias: str) -> str:
    """SQL: a hash of the row's content as it is now."""
    return f"hashtextextended(ROW({column_list(stored(table), alias)})::text, 0)"


def new_rows(table: Table, rows: str) -> str:
    """A query for the columns of an undo entry: the rows ``l`` of the FROM clause ``rows`` were inserted."""
    keys = "".join(f", l.{quote(name)}" for name in table.identity)
    if table.identity:
        own = ", ".join(f"NULL::{column.type} AS {quote(column.name)}" for column in table.stored_columns)
    else:
        own = column_list(stored(table), "l")
    return f"SELECT {literal(Change.INSERTED)}::text, {mark(table, 'l')}{keys}, {own} FROM {rows}"


@dataclass(slots=True)
class _Kept:
    """What is kept of one table: its before-images' temporary table once there is one, and queries for new rows."""

    table: Table
    name: str
    images: bool = False
    inserted: list[str] = field(default_factory=list)


class Recorder:
    """Keeps what one transaction does. Tell it before each update and delete; of inserts, where the new rows are."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._kept: dict[str, _Kept] = {}
        self._lists = 0

    async def before(self, table: Table, change: Change, rows: str, now: Sequence[str] = ()) -> None:
        """Keep the live rows ``l`` of the FROM clause ``rows`` as they are.

        ``now`` is SQL for the key that each will have afterwards, where an update changes it.
        """
        kept = self._of(table)
        now = tuple(now) or tuple(f"l.{quote(name)}" for name in table.identity)
        keys = "".join(f", {value} AS {quote(f'{NOW}{place}')}" for place, value in enumerate(now))
        select = f"SELECT {literal(change)}::text AS {quote(WHAT)}{keys}, {column_list(stored(table), 'l')} FROM {rows}"
        if not kept.images:
            await self._connection.execute(f"CREATE TEMP TABLE {quote(kept.name)} ON COMMIT DROP AS {select}")
            kept.images = True
        else:
            await self._connection.execute(f"INSERT INTO pg_temp.{quote(kept.name)} {select}")

    def inserted(self, table: Table, rows: str) -> None:
        """The new rows are the live rows ``l`` of the FROM clause ``rows``, which is looked at when all is written."""
        self._of(table).inserted.append(rows)

    async def will_insert(self, table: Table, columns: Sequence[str], keys: str) -> None:
        """New rows will be those whose ``columns`` have the values that the query ``keys`` gives now."""
        self._lists += 1
        name = f"backroom_new_{self._lists}"
        await self._connection.execute(f"CREATE TEMP TABLE {quote(name)} ON COMMIT DROP AS {keys}")
        same = " AND ".join(f"k.{quote(column)} = l.{quote(column)}" for column in columns)
        self.inserted(table, f"{qualified(table)} l JOIN pg_temp.{quote(name)} k ON {same}")

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of which something is kept, by name."""
        return tuple(self._kept[name].table for name in sorted(self._kept))

    def query(self, table: Table) -> str:
        """All that is kept of the table, in the columns of an undo entry. Valid once everything is written."""
        kept = self._kept[table.name]
        selects = [new_rows(table, rows) for rows in kept.inserted]
        if kept.images:
            selects.append(self._images(kept))
        return " UNION ALL ".join(selects)

    async def counts(self) -> dict[str, int]:
        """How many rows :meth:`query` gives for each table, by name."""
        asked = {table.name: f"(SELECT count(*) FROM ({self.query(table)}) kept)" for table in self.tables}
        return await scalars(self._connection, asked)

    def _of(self, table: Table) -> _Kept:
        return self._kept.setdefault(table.name, _Kept(table, f"backroom_before_{len(self._kept)}"))

    def _images(self, kept: _Kept) -> str:
        table = kept.table
        now = [quote(f"{NOW}{place}") for place, _ in enumerate(table.identity)]
        keys = "".join(f", b.{name}" for name in now)
        same = " AND ".join(f"l.{quote(key)} = b.{name}" for key, name in zip(table.identity, now, strict=True))
        alive = f"CASE WHEN b.{quote(WHAT)} = {literal(Change.UPDATED)} THEN {mark(table, 'l')} END"
        return (
            f"SELECT b.{quote(WHAT)}, {alive}{keys}, {column_list(stored(table), 'b')} "
            f"FROM pg_temp.{quote(kept.name)} b LEFT JOIN {qualified(table)} l ON {same or 'false'}"
        )
