"""Whether tables still hold the very rows that they held at an earlier moment, told without looking into the rows.

Every row says which transaction wrote it (its ``xmin``). A table is as it was if it has as many rows as then and none
that was written since: rows that went would be missing in the number, and whatever came since says so. That holds
while the server runs: one whose files were put back to an earlier day has been started again, and gives transaction
ids out a second time, and so may one that recovered from a crash. So a mark is good for one run of the server, and that
of a transaction which wrote as long as something of that can still be seen. What a row says is decided by its columns,
too: a table is only the same with the same columns in the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from agent.database.names import qualified
from agent.tables.schema import Table

_AT_ONCE = 40
# Transaction ids in rows have 32 bits: beyond half of that nobody knows any more which came first.
_LONGEST = 1 << 30

# Two runs of a server differ in when it was started or, after a crash, in when its counts began anew. A label of an
# enum that gets another name changes rows that nobody wrote.
_SERVER = (
    "SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), d.oid, "
    "(SELECT stats_reset FROM pg_stat_bgwriter), (SELECT md5(string_agg(concat_ws(' ', e.oid, e.enumtypid, "
    "quote_ident(e.enumlabel)), ',' ORDER BY e.oid)) FROM pg_enum e)) AS server, "
    "pg_snapshot_xmin(pg_current_snapshot())::text AS oldest, pg_snapshot_xmax(pg_current_snapshot())::text AS next "
    "FROM pg_database d WHERE d.datname = current_database()"
)
# Which tables rows of a name come from, partitions and heirs included, with their columns; in which files they are.
_PLACES = """
WITH RECURSIVE tree AS (
    SELECT name, name::regclass::oid AS oid FROM unnest($1::text[]) name
    UNION SELECT t.name, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid)
SELECT t.name, md5(string_agg(concat_ws(' ', t.oid, a.columns), ',' ORDER BY t.oid)) AS shape,
       md5(string_agg(concat_ws(' ', t.oid, pg_relation_filenode(t.oid), a.columns), ',' ORDER BY t.oid)) AS file
FROM tree t, LATERAL (
    SELECT string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, quote_ident(a.attname)), ',' ORDER BY a.attnum)
        AS columns
    FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped) a
GROUP BY t.name
"""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A table's rows, those that the marking transaction wrote, and those written since the mark."""

    rows: int
    own: int
    later: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How tables were when transaction ``own`` was about to commit (0: it only read): shape (:class:`Place`), rows and
    own rows by table name. ``oldest`` is the transaction before which all had ended."""

    server: str
    own: int
    oldest: int
    tables: Mapping[str, tuple[str, int, int]]

    def as_list(self) -> list[Any]:
        """Plain values, for JSON."""
        return [self.server, self.own, self.oldest, {name: list(found) for name, found in self.tables.items()}]

    @classmethod
    def of(cls, plain: list[Any]) -> Mark:
        """What :meth:`as_list` gave. Raises ``ValueError``, ``TypeError`` or ``AttributeError`` for other things."""
        server, own, oldest, tables = plain
        kept = {str(name): (str(shape), int(rows), int(own_rows)) for name, (shape, rows, own_rows) in tables.items()}
        return cls(str(server), int(own), int(oldest), kept)

    def believed(self, server: Server) -> bool:
        """Whether ids of transactions still tell there what came before the mark and what after it."""
        return server.run == self.server and 0 <= server.next - self.oldest < _LONGEST


@dataclass(frozen=True, slots=True)
class Server:
    """The run of a server and the ids of transactions in a snapshot: before ``oldest`` all had ended, from ``next`` on
    none had begun."""

    run: str
    oldest: int
    next: int


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows a table has, and how many of these the marking transaction wrote. The others are those of an
    earlier mark, if there is one; else there are none."""

    rows: int
    own: int
    before: Mark | None = None

    def clear(self, server: Server) -> bool:
        """Whether the transactions that wrote the other rows have ended, as far as any can be told apart now."""
        return self.before is None or max(self.before.own + 1, self.before.oldest) <= server.oldest


@dataclass(frozen=True, slots=True)
class Place:
    """Two digests: of what a table is (partitions, heirs and columns), and of this and of the files that hold its rows,
    in which none moves as long as they are the same."""

    shape: str
    file: str


def written_since(oldest: int, alias: str) -> str:
    """SQL: the condition that transaction ``oldest`` or a later one wrote the row ``alias``."""
    # The age of a fixed id does not change within a transaction: asked once, not for each row.
    return f"age({alias}.xmin) <= (SELECT age('{oldest % (1 << 32)}'::xid))"


async def server_of(connection: asyncpg.Connection) -> Server:
    """The server as the connection's snapshot sees it."""
    row = await connection.fetchrow(_SERVER)
    return Server(row["server"], int(row["oldest"]), int(row["next"]))


async def places_of(connection: asyncpg.Connection, tables: Iterable[Table]) -> dict[str, Place]:
    """Where the rows of these tables are, by name. The tables must be locked: else that may change."""
    known = {qualified(table): table.name for table in tables}
    rows = await connection.fetch(_PLACES, [*known])
    return {known[row["name"]]: Place(row["shape"], row["file"]) for row in rows}


async def mark_tables(
    connection: asyncpg.Connection, tables: Iterable[Table], counted: Mapping[str, Rows] | None = None
) -> Mark:
    """Mark these tables as they are for a transaction that has written what it writes.

    Those ``counted`` are not looked at where it is clear without that how they stand: nobody else can have written to
    them meanwhile, or the caller finds out who did. A table that somebody has written to while another transaction was
    still open is left out: which of its rows are older than the mark could not be told.
    """
    server = await server_of(connection)
    own = int(await connection.fetchval("SELECT pg_current_xact_id()::text"))
    tables = list(tables)
    clear = {name: rows for name, rows in (counted or {}).items() if rows.clear(server)}
    found = await _look(connection, [table for table in tables if table.name not in clear], own, server.oldest)
    found |= {table.name: _Rows(rows.rows, rows.own, 0) for table in tables if (rows := clear.get(table.name))}
    places = await places_of(connection, tables)
    kept = {name: (places[name].shape, rows.rows, rows.own) for name, rows in found.items() if not rows.later}
    return Mark(server.run, own, server.oldest, kept)


async def untouched(
    connection: asyncpg.Connection, mark: Mark, tables: Iterable[Table], *, again: bool = False
) -> frozenset[str]:
    """Names of those of ``tables`` whose rows are those of the mark. None are where the server was started since, or
    nothing that a marking writer wrote can be seen any more; ``again``: that was seen in this transaction already."""
    if not mark.believed(await server_of(connection)):
        return frozenset()
    marked = [table for table in tables if table.name in mark.tables]
    places = await places_of(connection, marked)
    same_place = [table for table in marked if places[table.name].shape == mark.tables[table.name][0]]
    found = await _look(connection, same_place, mark.own, mark.oldest)
    same = {name for name, rows in found.items() if not rows.later and (rows.rows, rows.own) == mark.tables[name][1:]}
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
    found: dict[str, _Rows] = {}
    left = list(tables)
    while left:
        question, left = left[:_AT_ONCE], left[_AT_ONCE:]
        found |= await _answers(connection, question, own, oldest)
    return found


async def _answers(
    connection: asyncpg.Connection, question: Sequence[Table], own: int, oldest: int
) -> dict[str, _Rows]:
    """What is found in each of these tables."""
    later = written_since(oldest, "t")
    written = "0"
    if own:
        written = f"count(*) FILTER (WHERE t.xmin = '{own % (1 << 32)}'::xid)"
        later = f"t.xmin <> '{own % (1 << 32)}'::xid AND {later}"
    sql = " UNION ALL ".join(
        f"SELECT {place} AS place, count(*) AS rows, {written} AS own, count(*) FILTER (WHERE {later}) AS later "
        f"FROM {qualified(table)} t"
        for place, table in enumerate(question)
    )
    return {
        question[row["place"]].name: _Rows(row["rows"], row["own"], row["later"]) for row in await connection.fetch(sql)
    }
