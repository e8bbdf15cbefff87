"""Whether tables still hold the very rows that they held at an earlier moment, told without looking into the rows.

Every row says which transaction wrote it (its ``xmin``). A table is as it was if it has as many rows as then and none
that was written since: rows that went would be missing in the number, and whatever came since says so. That holds
while the server runs: one whose files were put back to an earlier day has been started again, and gives transaction
ids out a second time. So a mark is good for one run of the server, and that of a transaction which wrote as
long as something of that can still be seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from agent.database.names import literal, qualified
from agent.tables.schema import Table

_AT_ONCE = 40
_LARGE_PAGES = 512
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


async def mark_tables(
    connection: asyncpg.Connection, tables: Iterable[Table], filled: Mapping[str, int] | None = None
) -> Mark:
    """Mark these tables as they are for a transaction that has written what it writes.

    ``filled`` are those that it found empty, holds alone and has filled, with the number of their rows: they need not
    be looked at. A table that somebody has written to while another transaction was still open is left out: which of
    its rows are older than the mark could not be told.
    """
    server = await connection.fetchrow(_SERVER)
    own = int(await connection.fetchval("SELECT pg_current_xact_id()::text"))
    tables, filled = list(tables), filled or {}
    others = [table for table in tables if table.name not in filled]
    found = await _look(connection, others, own, int(server["oldest"]))
    known = {qualified(table): table.name for table in tables if table.name in filled}
    for row in await connection.fetch("SELECT name, name::regclass::oid AS oid FROM unnest($1::text[]) name", [*known]):
        name = known[row["name"]]
        found[name] = _Rows(row["oid"], filled[name], filled[name], 0)
    return _marked(server, own, found)


class Marking:
    """A mark of tables as one snapshot sees them, which only reads, made by whichever connections see it: each looks at
    what none has looked at yet, the largest by their ``pages`` first. (Parts of one, by ``ctid``, cost a quarter more.)
    """

    def __init__(self, tables: Iterable[Table], pages: Mapping[str, int]) -> None:
        self._left = deque(_questions(tables, pages))
        self._unanswered = len(self._left)
        self._found: dict[str, _Rows] = {}
        self._server: asyncpg.Record | None = None
        self._first = asyncio.Lock()

    async def go_on(self, connection: asyncpg.Connection) -> None:
        """Look until nothing is left to be looked at. Raises what the driver does: there will be no mark then."""
        async with self._first:
            self._server = self._server or await connection.fetchrow(_SERVER)
        assert self._server is not None
        while self._left:
            question = self._left.popleft()
            self._found.update(await _answers(connection, question, 0, int(self._server["oldest"])))
            self._unanswered -= 1

    def mark(self) -> Mark | None:
        """The mark, without the tables that :func:`mark_tables` leaves out, too; None where some were not looked at."""
        return _marked(self._server, 0, self._found) if self._server and not self._unanswered else None


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
    found: dict[str, _Rows] = {}
    for question in _questions(tables, {}):
        found |= await _answers(connection, question, own, oldest)
    return found


def _marked(server: asyncpg.Record, own: int, found: Mapping[str, _Rows]) -> Mark:
    kept = {name: (rows.oid, rows.rows, rows.own) for name, rows in found.items() if not rows.later}
    return Mark(server["server"], own, int(server["oldest"]), kept)


def _questions(tables: Iterable[Table], pages: Mapping[str, int]) -> Iterator[Sequence[Table]]:
    """Which tables are looked at by one statement each: small ones together."""
    several: list[Table] = []
    for table in sorted(tables, key=lambda table: -pages.get(table.name, 0)):
        several.append(table)
        if len(several) == _AT_ONCE or pages.get(table.name, 0) >= _LARGE_PAGES:
            yield several
            several = []
    if several:
        yield several


async def _answers(
    connection: asyncpg.Connection, question: Sequence[Table], own: int, oldest: int
) -> dict[str, _Rows]:
    """What is found in each of these tables."""
    # The age of a fixed id does not change within a transaction: asked once, not for each row.
    later = f"age(t.xmin) <= (SELECT age('{oldest % (1 << 32)}'::xid))"
    written = "0"
    if own:
        written = f"count(*) FILTER (WHERE t.xmin = '{own % (1 << 32)}'::xid)"
        later = f"t.xmin <> '{own % (1 << 32)}'::xid AND {later}"
    sql = " UNION ALL ".join(
        f"SELECT {place} AS place, {literal(qualified(table))}::regclass::oid AS oid, count(*) AS rows, "
        f"{written} AS own, count(*) FILTER (WHERE {later}) AS later FROM {qualified(table)} t"
        for place, table in enumerate(question)
    )
    return {
        question[row["place"]].name: _Rows(row["oid"], row["rows"], row["own"], row["later"])
        for row in await connection.fetch(sql)
    }
