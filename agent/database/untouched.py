"""Whether tables still hold the very rows that they held at an earlier moment, told without looking into the rows.

Every row says which transaction wrote it (its ``xmin``). A table is as it was if it has as many rows as then and none
that was written since: rows that went would be missing in the number, and whatever came since says so. That holds
while the server runs: one whose files were put back to an earlier day has been started again, and gives transaction
ids out a second time. So a mark is good for one run of the server, and that of a transaction which wrote as
long as something of that can still be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from agent.database.names import literal, qualified
from agent.tables.schema import Table

_AT_ONCE = 40
# Transaction ids in rows have 32 bits: beyond half of that nobody knows any more which came first.
_LONGEST = 1 << 30

_SERVER = (
    "SELECT extract(epoch FROM pg_postmaster_start_time())::text || ' ' || d.oid AS server, "
    "pg_snapshot_xmin(pg_current_snapshot())::text AS oldest, pg_snapshot_xmax(pg_current_snapshot())::text AS next "
    "FROM pg_database d WHERE d.datname = current_database()"
)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A table's OID, its rows, those that the marking transaction wrote, and those written since the mark."""

    oid: int
    rows: int
    own: int
    later: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How tables were when transaction ``own`` was about to commit (0: it only read): OID, rows and own rows by table
    name. ``oldest`` is the transaction before which all had ended."""

    server: str
    own: int
    oldest: int
    tables: Mapping[str, tuple[int, int, int]]

    def as_list(self) -> list[Any]:
        """Plain values, for JSON."""
        return [self.server, self.own, self.oldest, {name: list(found) for name, found in self.tables.items()}]

    @classmethod
    def of(cls, plain: list[Any]) -> Mark:
        """What :meth:`as_list` gave. Raises ``ValueError``, ``TypeError`` or ``AttributeError`` for other things."""
        server, own, oldest, tables = plain
        kept = {str(name): (int(oid), int(rows), int(own_rows)) for name, (oid, rows, own_rows) in tables.items()}
        return cls(str(server), int(own), int(oldest), kept)


async def mark_tables(connection: asyncpg.Connection, tables: Iterable[Table], *, writer: bool = True) -> Mark:
    """Mark these tables as they are for this transaction: a ``writer``, which has written what it writes, or one that
    sees one moment.

    A table that somebody has written to while another transaction was still open is left out: which of its rows are
    older than the mark could not be told.
    """
    server = await connection.fetchrow(_SERVER)
    own = int(await connection.fetchval("SELECT pg_current_xact_id()::text")) if writer else 0
    oldest = int(server["oldest"])
    found = await _look(connection, tables, own, oldest)
    return Mark(
        server["server"],
        own,
        oldest,
        {name: (rows.oid, rows.rows, rows.own) for name, rows in found.items() if not rows.later},
    )


async def untouched(
    connection: asyncpg.Connection, mark: Mark, tables: Iterable[Table], *, again: bool = False
) -> frozenset[str]:
    """Names of those of ``tables`` whose rows are those of the mark. None are where the server was started since, or
    nothing that a marking writer wrote can be seen any more; ``again``: that was seen in this transaction already."""
    server = await connection.fetchrow(_SERVER)
    if server["server"] != mark.server or not 0 <= int(server["next"]) - mark.oldest < _LONGEST:
        return frozenset()
    found = await _look(connection, (table for table in tables if table.name in mark.tables), mark.own, mark.oldest)
    same = {
        name for name, rows in found.items() if not rows.later and (rows.oid, rows.rows, rows.own) == mark.tables[name]
    }
    believed = again or not mark.own or any(found[name].own for name in same)
    return frozenset(same) if believed else frozenset()


async def has_triggers(connection: asyncpg.Connection, tables: Iterable[Table]) -> bool:
    """Whether somebody's triggers or rules have a say in what is written to these tables."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY($1::text[]::regclass[]) "
            "AND NOT t.tgisinternal) OR EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY($1::text[]::regclass[]) "
            "AND c.relhasrules)",
            [qualified(table) for table in tables],
        )
    )


async def _look(connection: asyncpg.Connection, tables: Iterable[Table], own: int, oldest: int) -> dict[str, _Rows]:
    """Rows in all, that transaction ``own`` wrote, and that others wrote from ``oldest`` on, by table."""
    by_place = list(tables)
    found: dict[str, _Rows] = {}
    written = f"'{own % (1 << 32)}'::xid"
    since = f"age(t.xmin) <= age('{oldest % (1 << 32)}'::xid)"
    for start in range(0, len(by_place), _AT_ONCE):
        several = by_place[start : start + _AT_ONCE]
        sql = " UNION ALL ".join(
            f"SELECT {place} AS place, {literal(qualified(table))}::regclass::oid AS oid, count(*) AS rows, "
            f"count(*) FILTER (WHERE t.xmin = {written}) AS own, "
            f"count(*) FILTER (WHERE t.xmin <> {written} AND {since}) AS later FROM {qualified(table)} t"
            for place, table in enumerate(several)
        )
        for row in await connection.fetch(sql):
            found[several[row["place"]].name] = _Rows(row["oid"], row["rows"], row["own"], row["later"])
    return found
