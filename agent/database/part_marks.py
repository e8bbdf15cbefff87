"""How the tables of a backup stand in its snapshot, part by part, told as :mod:`agent.database.untouched` does.

One look at each part, which counts its rows and those of them that are old, answers both what is still as an earlier
mark says and what a later backup needs to know. A part is as it was if its table has not been written anew to other
files (rows would be on other pages), and it has as many rows as then and none that a transaction wrote that had not
ended at the mark: the rows that it has were there then, on the same pages, so that they are all that it had. Rows of a
transaction that was under way at the mark, which it saw or not, are either still there and young, or missing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified
from agent.database.pages import Part, parts
from agent.database.untouched import Mark, Place, Server, places_of, server_of
from agent.tables.schema import Schema, Table

_TABLES_AT_ONCE = 40
_PAGES_AT_ONCE = 4096
_XID = 1 << 32
_ALL = {None: "NULL::bigint", "true": "count(*)"}
_COUNTED = ("rows", "old", "met", "old_met")


@dataclass(frozen=True, slots=True)
class PartRows:
    """The rows of a part: how many, and how many of them are old, written by transactions that had ended at the earlier
    mark (None: nothing can be told by it); and how many of all, and of the old ones, meet the condition that was asked
    for (all of them, where none was)."""

    rows: int
    old: int | None
    met: int | None = None
    old_met: int | None = None

    @property
    def before(self) -> bool:
        """Whether all are old."""
        return self.old == self.rows


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the rows of a table are, and how those of each of its parts stand."""

    place: Place
    parts: tuple[PartRows, ...]

    @property
    def rows(self) -> int:
        """All rows of the table."""
        return sum(part.rows for part in self.parts)

    @property
    def met(self) -> int | None:
        """Those that meet the condition; None where none was asked for."""
        met = [part.met for part in self.parts if part.met is not None]
        return sum(met) if met else None


@dataclass(frozen=True, slots=True)
class Standings:
    """All tables that were looked at, in one snapshot."""

    server: Server
    tables: Mapping[str, Standing]

    def mark(self) -> Mark:
        """The mark of this snapshot, which only reads."""
        kept = {name: (table.place.shape, table.rows, 0) for name, table in self.tables.items()}
        return Mark(self.server.run, 0, self.server.oldest, kept)

    @property
    def counted(self) -> dict[str, int]:
        """The rows that meet the conditions, by table."""
        return {name: met for name, table in self.tables.items() if (met := table.met) is not None}

    def untouched(self, mark: Mark) -> frozenset[str]:
        """The tables whose rows are those of the earlier mark."""
        now = {name: (table.place.shape, table.rows, 0) for name, table in self.tables.items()}
        return frozenset(
            name
            for name, table in self.tables.items()
            if mark.tables.get(name) == now[name] and all(part.before for part in table.parts)
        )


class Marking:
    """The standings of tables as one snapshot sees them, told by whichever connections see it: each looks at what none
    has looked at yet, the largest by their ``pages`` first. The tables must be locked. ``conditions`` are SQL over rows
    (``t``) of some of them; ``earlier`` is a mark of before.
    """

    def __init__(
        self,
        schema: Schema,
        names: Iterable[str],
        pages: Mapping[str, int],
        part_pages: int,
        conditions: Mapping[str, str],
        earlier: Mark | None = None,
    ) -> None:
        self._tables = [schema.tables[name] for name in names]
        self._parts = {table.name: parts(pages.get(table.name, 0), part_pages) for table in self._tables}
        self._left = deque(self._questions(pages, max(_PAGES_AT_ONCE // part_pages, 1)))
        self._found: dict[tuple[str, int], PartRows] = {}
        self._conditions = conditions
        self._earlier = earlier
        self._server: Server | None = None
        self._places: dict[str, Place] = {}
        self._first = asyncio.Lock()
        self._asked = 0
        self._ended = asyncio.Event()

    async def go_on(self, connection: asyncpg.Connection) -> None:
        """Look until nothing is left to be looked at. Raises what the driver does: there will be no standings then."""
        async with self._first:
            if self._server is None:
                self._places = await places_of(connection, self._tables)
                self._server = await server_of(connection)
        marked = None
        if self._earlier is not None and self._earlier.believed(self._server):
            # Ages are counted from a transaction of this connection, and stay the same until it ends.
            marked = await connection.fetchval(f"SELECT age('{self._earlier.oldest % _XID}'::xid)")
        self._asked += 1
        try:
            while self._left:
                question = self._left.popleft()
                for place, *counted in await self._answers(connection, question, marked):
                    table, number, _ = question[place]
                    self._found[table.name, number] = PartRows(*counted)
        finally:
            self._asked -= 1
            if not self._asked:
                self._ended.set()

    async def ended(self) -> None:
        """Wait until nobody looks any more; to be asked for after a :meth:`go_on`."""
        while self._asked:
            self._ended.clear()
            await self._ended.wait()

    def standings(self) -> Standings | None:
        """All that was found; None where some was not looked at."""
        if self._server is None or len(self._found) < sum(map(len, self._parts.values())):
            return None
        told = {
            name: Standing(self._places[name], tuple(self._found[name, number] for number in range(len(parts))))
            for name, parts in self._parts.items()
        }
        return Standings(self._server, told)

    def _questions(self, pages: Mapping[str, int], at_once: int) -> Iterator[Sequence[tuple[Table, int, Part]]]:
        """What is looked at by one statement each: some parts of a table, or several tables that are one part each."""
        several: list[tuple[Table, int, Part]] = []
        for table in sorted(self._tables, key=lambda table: -pages.get(table.name, 0)):
            numbered = [(table, number, part) for number, part in enumerate(self._parts[table.name])]
            if len(numbered) > 1:
                yield from (numbered[start : start + at_once] for start in range(0, len(numbered), at_once))
                continue
            several += numbered
            if len(several) == _TABLES_AT_ONCE:
                yield several
                several = []
        if several:
            yield several

    def _looked(self, table: Table, marked: int | None) -> str:
        """What is asked of rows of a table: the fields of :class:`PartRows`."""
        condition = self._conditions.get(table.name)
        old = f"age(t.xmin) > {marked}" if marked is not None else None
        both = f"{condition} AND {old}" if condition is not None and old is not None else None
        counted = (_count("true"), _count(old), _count(condition), _count(both))
        return ", ".join(f"{sql} AS {name}" for sql, name in zip(counted, _COUNTED, strict=True))

    async def _answers(
        self, connection: asyncpg.Connection, question: Sequence[tuple[Table, int, Part]], marked: int | None
    ) -> list[asyncpg.Record]:
        """Place in the question and what was counted, for each of these parts. ``marked`` is the age above which rows
        are old, if that is asked."""
        first = question[0][0]
        if len(question) > 1 and question[1][0] is first:
            # A condition on ctid with bounds for each part is a scan of its pages alone.
            low, high = zip(*(part.bounds for _, _, part in question), strict=True)
            found = await connection.fetch(
                f"SELECT p.place - 1, c.* FROM unnest($1::tid[], $2::tid[]) WITH ORDINALITY "
                f"p (low, high, place), LATERAL (SELECT {self._looked(first, marked)} FROM {qualified(first)} t "
                f"WHERE t.ctid >= p.low AND t.ctid < p.high) c",
                low,
                high,
            )
        else:
            found = await connection.fetch(
                " UNION ALL ".join(
                    f"SELECT {place}, {self._looked(table, marked)} FROM {qualified(table)} t WHERE {part.holds('t')}"
                    for place, (table, _, part) in enumerate(question)
                )
            )
        return list(found)


def _count(condition: str | None) -> str:
    """SQL: how many rows meet it."""
    return f"count(*) FILTER (WHERE {condition})" if condition not in (None, "true") else _ALL[condition]
