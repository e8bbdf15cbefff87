"""Filling a scope by set-based SQL, to a fixpoint, in one snapshot (DESIGN section 2).

The rows with which a backup begins need no walk: a condition tells them. So travel edges are walked from shared rows
alone, and from the beginning only the needs lead on: one pass over the own rows of a table for all of its references.
Then each round follows the edges whose source gained rows in the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import asyncpg

from agent.database.names import qualified, quote
from agent.database.ownership import NEVER
from agent.database.scalars import scalars
from agent.database.scope import REFERENCES_TABLE, SCOPE_TABLE, How, Scope, Source
from agent.database.scope_references import References
from agent.tables.scope import NeedEdge, TravelEdge

_ANALYZE_FROM = 1000
_AT_ONCE = 8
# Of more values than this the gate asks the rows again: to keep them costs more.
_KEPT_VALUES = 50_000
# Whether a table has rows that are not own is asked where this many rows refer to it, and so many times its own number.
_MANY_REFERRING = 20_000
_TIMES = 10


async def fill_business_scope(connection: asyncpg.Connection, scope: Scope) -> None:
    """Add to the rows of the business (those that are its own) all that comes along, to a fixpoint."""
    await _Walk(connection, scope).run(scope.rules.travels, scope.rules.needs)


async def find_complete(connection: asyncpg.Connection, scope: Scope) -> None:
    """Count the rows with which a backup of all but some businesses begins, and mark the tables of which no row is left
    out as complete.
    """
    asked = {}
    for table in scope.rules.tables:
        relation = f"{qualified(scope.schema.tables[table])} t"
        if (theirs := scope.ownership.theirs(table, "t")) == NEVER:
            continue
        if "SELECT" in theirs:  # by a join, which a filter would not become
            asked[table] = f"ARRAY[(SELECT count(*) FROM {relation}), (SELECT count(*) FROM {relation} WHERE {theirs})]"
        else:
            asked[table] = f"(SELECT ARRAY[count(*), count(*) FILTER (WHERE {theirs})] FROM {relation})"
    left_out = set()
    for table, (rows, out) in (await scalars(connection, asked)).items():
        scope.begun_rows[table] = rows - out
        left_out |= {table} if out else set()
    scope.complete |= {table: How.OWN for table in scope.rules.tables if table not in left_out}


async def fill_full_scope(connection: asyncpg.Connection, scope: Scope) -> None:
    """Add what is needed to everything but the rows of the businesses left out."""
    if len(scope.complete) < len(scope.rules.tables):
        await _Walk(connection, scope).run((), scope.rules.needs)


class _Walk:
    """One walk over a scope. In the first round the rows that have no line are new, then the lines of the last.

    A round is one text of many statements, and a question what it brought: most tables are small, and each round trip
    costs more than they do.
    """

    def __init__(self, connection: asyncpg.Connection, scope: Scope) -> None:
        self._connection = connection
        self._scope = scope
        self._grown = 0
        self._round = 0
        self._passes: list[tuple[str, dict[tuple[str, ...], int]]] = []

    async def run(self, travels: Iterable[TravelEdge], needs: Iterable[NeedEdge]) -> None:
        """Follow the edges until no table gains a row."""
        scope = self._scope
        travels = [edge for edge in travels if scope.scoped(edge.child)]
        needs = [edge for edge in needs if scope.scoped(edge.parent)]
        scope.all_own = await self._all_own(needs)
        needs = [edge for edge in needs if edge.parent not in scope.all_own]
        self._round = 1
        statements = []
        for travel in travels:
            # What belongs to own rows is own itself, unless its table belongs to none.
            begun = scope.begun(travel.parent, "p")
            settled = scope.scoped(travel.parent) and scope.own(travel.child, "c") != NEVER
            if begun and not settled:
                statements.append(self._travelling(travel, begun))
        gained, bringing = await self._gain([*statements, *self._first_needs(needs)])
        await self._note_references()
        while gained:
            await self._analyze()
            self._round += 1
            statements = []
            for travel in travels:
                if travel.parent in bringing and (source := self._last_round(travel.parent, "p")):
                    statements.append(self._travelling(travel, source))
            for need in needs:
                if need.child in gained and (source := self._last_round(need.child, "c")):
                    statements.append(self._needed_by(need, source))
            gained, bringing = await self._gain(statements)

    async def _all_own(self, needs: Iterable[NeedEdge]) -> frozenset[str]:
        """Tables that many rows refer to and that have no row but own ones: whatever refers to them finds a row that is
        in. In a database of one business they are most tables, and so its large ones need not be looked through.
        """
        scope = self._scope
        if scope.ownership.all_but:
            return frozenset()
        referring: Counter[str] = Counter()
        for edge in needs:
            if not (scope.scoped(edge.child) and scope.ownership.settles(edge)):
                referring[edge.parent] += scope.schema.tables[edge.child].estimated_rows
        asked = {}
        for table, rows in referring.items():
            own, found = scope.own(table, "t"), scope.schema.tables[table]
            if own != NEVER and rows >= max(_MANY_REFERRING, _TIMES * found.estimated_rows):
                # All are counted: where one is enough the planner looks for it row by row, which may be the last.
                counting = f"SELECT count(*) FROM {qualified(found)} t"
                asked[table] = f"ARRAY[({counting}), ({counting} WHERE NOT {own})]"
        counted = await scalars(self._connection, asked)
        all_own = {table: rows for table, (rows, others) in counted.items() if not others}
        scope.begun_rows |= all_own
        return frozenset(all_own)

    async def _gain(self, statements: Sequence[str]) -> tuple[set[str], set[str]]:
        """Run the statements of a round: the tables that gained lines or better ones, and those that gained others than
        stubs, with which nothing travels.
        """
        gained: set[str] = set()
        bringing: set[str] = set()
        if statements:
            await self._connection.execute("; ".join(statements))
            for place, rows, best in await self._connection.fetch(
                f"SELECT place, count(*), min(how) FROM {SCOPE_TABLE} WHERE round = {self._round} GROUP BY place"
            ):
                table = self._scope.rules.tables[place]
                self._scope.lines[table] += rows
                self._grown += rows
                gained.add(table)
                bringing |= {table} if best < How.STUB else set()
        return gained, bringing

    def _first_needs(self, needs: Iterable[NeedEdge]) -> Iterator[str]:
        """Adds what the rows with which the backup begins need."""
        scope = self._scope
        edges: dict[str, list[NeedEdge]] = {}
        for edge in needs:
            if not ((scope.ownership.all_but or scope.scoped(edge.child)) and scope.ownership.settles(edge)):
                edges.setdefault(edge.child, []).append(edge)
        for child, found in edges.items():
            begun = scope.begun(child, "c")
            if begun is None:
                continue
            for several in _batches(found):
                yield self._referred(several, self._few(several, begun) if scope.ownership.all_but else begun)

    def _referred(self, edges: Sequence[NeedEdge], children: Source) -> str:
        """Adds the rows to which the references of these children lead, found in one pass.

        The pass counts the children, too, and keeps the values of the references: the gate asks those, not the rows.
        """
        found = References(edges)
        missing = " UNION ALL ".join(self._missing(found, edge) for edge in edges)
        # Numbers from 1 on are those of references, below 0 those of passes.
        first = sum(len(numbers) for _, numbers in self._passes) + 1
        numbers = {columns: number for number, columns in enumerate(found.groups, first)}
        self._passes.append((edges[0].child, numbers))
        values = " UNION ALL ".join(
            f"SELECT {number}, {found.key(columns)} FROM n WHERE {found.of(columns)}"
            for columns, number in numbers.items()
        )
        return (
            f"WITH n AS MATERIALIZED ({found.select(children)}), "
            f"added AS (INSERT INTO {SCOPE_TABLE} (place, oid, tid, how, round) {missing} ON CONFLICT DO NOTHING), "
            f"kept AS (INSERT INTO {REFERENCES_TABLE} (source, key) SELECT * FROM ({values}) v "
            f"WHERE (SELECT count(*) FROM n) <= {_KEPT_VALUES}) "
            f"INSERT INTO {REFERENCES_TABLE} (source, key) SELECT {-len(self._passes)}, "
            f"ARRAY[n.rows::text, (SELECT count(*) FROM n)::text] FROM n WHERE {found.of(())}"
        )

    async def _note_references(self) -> None:
        """What the passes of the first round counted, and the values of which references they kept."""
        kept = 0
        for number, (rows, values) in await self._connection.fetch(
            f"SELECT source, key::bigint[] FROM {REFERENCES_TABLE} WHERE source < 0"
        ):
            child, numbers = self._passes[-number - 1]
            if not self._scope.ownership.all_but:
                self._scope.begun_rows[child] = rows
            if values <= _KEPT_VALUES:
                self._scope.references |= {(child, columns): source for columns, source in numbers.items()}
                kept += values
        if kept >= _ANALYZE_FROM:
            # How many there are of each: statistics of arrays cost six times as much, and nobody asks for them.
            await self._connection.execute(f"ANALYZE {REFERENCES_TABLE} (source)")

    def _missing(self, references: References, edge: NeedEdge) -> str:
        """The rows to which a reference leads and that are not own."""
        scope = self._scope
        own = scope.own(edge.parent, "o")
        parent = qualified(scope.schema.tables[edge.parent])
        lacking = f"SELECT FROM {parent} o WHERE {references.join(edge, 'o')} AND {own}"
        return (
            f"SELECT {scope.place(edge.parent)}, p.tableoid, p.ctid, {self._how(edge.parent, 'p')}, {self._round} "
            f"FROM {parent} p JOIN n ON {references.join(edge, 'p')} WHERE {references.of(edge.columns)}"
            f"{'' if own == NEVER else f' AND NOT EXISTS ({lacking})'}"
        )

    def _last_round(self, table: str, alias: str) -> Source | None:
        """The lines that the table gained in the round before."""
        added = self._scope.added(table, alias)
        return added and Source(
            added.clause, f"{added.condition} AND {alias}_scope.round = {self._round - 1}", added.how
        )

    def _travelling(self, edge: TravelEdge, parent: Source) -> str:
        scope = self._scope
        conditions = [f"{parent.how} < {How.STUB:d}", *(f"c.{quote(column)} IS NULL" for column in edge.unset)]
        if edge.equal:
            # A shared row brings only what no other business owns with it.
            conditions.append(f"({parent.how} = {How.OWN:d} OR NOT {scope.ownership.theirs(edge.child, 'c')})")
        own = scope.own(edge.child, "c")
        conditions += [] if own == NEVER else [f"NOT {own}"]
        child = qualified(scope.schema.tables[edge.child])
        select = (
            f"SELECT {scope.place(edge.child)}, c.tableoid, c.ctid, {parent.how}, {self._round} FROM {parent.clause} "
            f"JOIN {child} c ON c.{quote(edge.column)} = p.{quote(edge.parent_column)} "
            f"{_unknown(scope, edge.child, 'c')} WHERE {parent.condition} "
            f"AND (known.oid IS NULL OR known.how > {parent.how}) AND {' AND '.join(conditions)}"
        )
        return self._insert(edge.child, select)

    def _needed_by(self, edge: NeedEdge, child: Source) -> str:
        scope = self._scope
        parent = qualified(scope.schema.tables[edge.parent])
        pairs = zip(edge.columns, edge.parent_columns, strict=True)
        join = " AND ".join(f"p.{quote(theirs)} = n.{quote(ours)}" for ours, theirs in pairs)
        columns = ", ".join(f"c.{quote(column)}" for column in edge.columns)
        how = self._how(edge.parent, "p")
        own = scope.own(edge.parent, "p")
        select = (
            f"SELECT {scope.place(edge.parent)}, p.tableoid, p.ctid, {how}, {self._round} "
            f"FROM (SELECT DISTINCT {columns} FROM {child.where()}) n JOIN {parent} p ON {join} "
            f"{_unknown(scope, edge.parent, 'p')} WHERE (known.oid IS NULL OR known.how > {how})"
            f"{'' if own == NEVER else f' AND NOT {own}'}"
        )
        return self._insert(edge.parent, select)

    def _few(self, edges: Sequence[NeedEdge], children: Source) -> Source:
        """Of these children those that refer to rows which are not own, where nearly all are."""
        found = []
        for edge in edges:
            pairs = zip(edge.columns, edge.parent_columns, strict=True)
            same = " AND ".join(f"f.{quote(theirs)} = c.{quote(ours)}" for ours, theirs in pairs)
            theirs = self._scope.ownership.theirs(edge.parent, "f")
            parent = qualified(self._scope.schema.tables[edge.parent])
            found.append(f"EXISTS (SELECT FROM {parent} f WHERE {same} AND {theirs})")
        return Source(children.clause, f"{children.condition} AND ({' OR '.join(found)})", children.how)

    def _how(self, table: str, alias: str) -> str:
        """How a row comes in that is needed."""
        theirs = self._scope.ownership.theirs(table, alias)
        if theirs == NEVER:
            return str(int(How.SHARED))
        return f"CASE WHEN {theirs} THEN {How.STUB:d} ELSE {How.SHARED:d} END"

    def _insert(self, table: str, select: str) -> str:
        """Each row is found once at most by a query: what an edge points at is unique."""
        return (
            f"INSERT INTO {SCOPE_TABLE} AS kept (place, oid, tid, how, round) {select} "
            "ON CONFLICT (place, tid, oid) DO UPDATE SET how = excluded.how, round = excluded.round "
            "WHERE excluded.how < kept.how"
        )

    async def _analyze(self) -> None:
        # Without statistics the planner takes the lines of a table for a handful and walks them in nested loops.
        if self._grown >= _ANALYZE_FROM:
            await self._connection.execute(f"ANALYZE {SCOPE_TABLE}")
            self._grown = 0


def _unknown(scope: Scope, table: str, alias: str) -> str:
    """A join with the row's line, where it has one: most of what is found again is known."""
    return (
        f"LEFT JOIN {SCOPE_TABLE} known ON known.place = {scope.place(table)} "
        f"AND known.tid = {alias}.ctid AND known.oid = {alias}.tableoid"
    )


def _batches(edges: Sequence[NeedEdge]) -> Iterator[Sequence[NeedEdge]]:
    """Some edges at a time: GROUPING takes 31 columns at most, and each reference a hash table."""
    for start in range(0, len(edges), _AT_ONCE):
        yield edges[start : start + _AT_ONCE]
