"""Which rows a backup takes, found by set-based SQL in one snapshot (DESIGN section 2).

Each table that is not taken whole has a scope table: temporary, one line for each included row with its address in
the snapshot (``tableoid``, ``ctid``: they cannot move while the snapshot is held, and work for tables without a key)
and how it came in. The tables are made before the transaction, because that one is read-only: nothing in a backup can
change a row of the platform, whatever the SQL here says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import asyncpg

from agent.database.names import qualified, quote
from agent.database.ownership import NEVER, Ownership
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from agent.tables.scope import NeedEdge, ScopeRules, TravelEdge

_ANALYZE_FROM = 1000


class How(IntEnum):
    """How a row came in. The lower number is the stronger word: a row may be upgraded, never downgraded."""

    OWN = 1  # it belongs to the business
    SHARED = 2  # it belongs to no business and is needed, or travels with such a row
    STUB = 3  # it belongs to another business and is needed: it comes alone


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of one table in a scope."""

    rows: int
    stubs: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where the included rows of a table are: a FROM clause with the row as ``t``, and how each came in as SQL."""

    clause: str
    how: str

    def where(self, condition: str) -> str:
        """The FROM clause with a condition."""
        return f"{self.clause} WHERE {condition}"


def scope_table(position: int) -> str:
    """The name of the scope table of the table at ``position`` among the scope's tables."""
    return f"pg_temp.backroom_scope_{position}"


async def prepare_scope(connection: asyncpg.Connection, tables: Iterable[str]) -> None:
    """Make empty scope tables for these tables, in this order. To be called outside a read-only transaction."""
    statements = [
        f"CREATE TEMP TABLE IF NOT EXISTS backroom_scope_{position} "
        "(oid oid NOT NULL, tid tid NOT NULL, how smallint NOT NULL, round smallint NOT NULL, PRIMARY KEY (oid, tid));"
        f"TRUNCATE pg_temp.backroom_scope_{position};"
        for position, _ in enumerate(tables)
    ]
    if statements:
        await connection.execute("".join(statements))


class Scope:
    """The rows of one backup. ``complete`` are the tables of which every row is in, with how they count.

    ``all_but_theirs`` says that the walk began with every row that is not of a business left out.
    """

    def __init__(
        self,
        schema: Schema,
        classification: Classification,
        rules: ScopeRules,
        ownership: Ownership,
        complete: Mapping[str, How],
    ) -> None:
        self.schema = schema
        self.classification = classification
        self.rules = rules
        self.ownership = ownership
        self.complete = dict(complete)
        self.all_but_theirs = False
        self._positions = {name: place for place, name in enumerate(rules.tables)}

    def scoped(self, table: str) -> bool:
        """Whether the table has a scope table (else it is complete, or not in the backup at all)."""
        return table in self._positions and table not in self.complete

    def scope_table(self, table: str) -> str:
        return scope_table(self._positions[table])

    def source(self, table: str, alias: str = "t") -> Source:
        """The included rows of a table, ``alias`` for the row."""
        relation = qualified(self.schema.tables[table])
        if not self.scoped(table):
            return Source(f"{relation} {alias}", str(int(self.complete.get(table, How.OWN))))
        scope = f"{alias}_scope"
        return Source(
            f"{relation} {alias} JOIN {self.scope_table(table)} {scope} "
            f"ON {scope}.tid = {alias}.ctid AND {scope}.oid = {alias}.tableoid",
            f"{scope}.how",
        )

    async def count(self, connection: asyncpg.Connection, tables: Iterable[str]) -> dict[str, Counted]:
        """Exact rows of each table in the scope, stubs apart."""
        counted = {}
        for table in tables:
            if self.scoped(table):
                row = await connection.fetchrow(
                    f"SELECT count(*) FILTER (WHERE how < {How.STUB:d}) AS rows, "
                    f"count(*) FILTER (WHERE how = {How.STUB:d}) AS stubs FROM {self.scope_table(table)}"
                )
            else:
                row = await connection.fetchrow(
                    f"SELECT count(*) AS rows, 0 AS stubs FROM {qualified(self.schema.tables[table])}"
                )
            assert row is not None
            counted[table] = Counted(rows=row["rows"], stubs=row["stubs"])
        return counted


async def fill_business_scope(connection: asyncpg.Connection, scope: Scope, business: str) -> None:
    """Fill the scope tables with one business (its id as text) and all that comes along, to a fixpoint."""
    table = scope.classification.businesses
    primary = scope.schema.tables[table].primary_key
    assert primary is not None
    await connection.execute(
        f"INSERT INTO {scope.scope_table(table)} SELECT t.tableoid, t.ctid, {How.OWN:d}, 0 "
        f"FROM {qualified(scope.schema.tables[table])} t WHERE t.{quote(primary.columns[0])}::text = $1",
        business,
    )
    await _walk(connection, scope, {table} | set(scope.complete), scope.rules.travels, scope.rules.needs)


async def fill_full_scope(connection: asyncpg.Connection, scope: Scope) -> None:
    """Fill the scope tables with everything but the rows of the businesses left out, then with what those rows need.

    Tables of which no row is left out are marked complete.
    """
    started = set()
    for table in scope.rules.tables:
        relation = qualified(scope.schema.tables[table])
        theirs = scope.ownership.theirs(table, "t")
        if theirs == NEVER or not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {relation} t WHERE {theirs})"):
            scope.complete[table] = How.OWN
        else:
            rows = await _execute(
                connection,
                f"INSERT INTO {scope.scope_table(table)} SELECT t.tableoid, t.ctid, {How.OWN:d}, 0 "
                f"FROM {relation} t WHERE NOT {theirs}",
            )
            if rows >= _ANALYZE_FROM:
                await connection.execute(f"ANALYZE {scope.scope_table(table)}")
            started.add(table)
    if started:
        scope.all_but_theirs = True
        await _walk(connection, scope, started | set(scope.complete), (), scope.rules.needs)


async def _walk(
    connection: asyncpg.Connection,
    scope: Scope,
    started: set[str],
    travels: Iterable[TravelEdge],
    needs: Iterable[NeedEdge],
) -> None:
    """Follow the edges whose source gained rows in the last round, until no table gains any."""
    travels = [edge for edge in travels if scope.scoped(edge.child)]
    needs = [edge for edge in needs if scope.scoped(edge.parent)]
    gained = started
    grown: dict[str, int] = dict.fromkeys(scope.rules.tables, 0)
    current = 0
    while gained:
        current += 1
        gains: set[str] = set()
        for travel in travels:
            if travel.parent in gained and await _insert(
                connection, _travel_sql(scope, travel, current), grown, travel.child
            ):
                gains.add(travel.child)
        for need in needs:
            if need.child in gained and await _insert(connection, _need_sql(scope, need, current), grown, need.parent):
                gains.add(need.parent)
        for table in gains:
            # Without statistics the planner takes a scope for a handful of rows and walks it in nested loops.
            if grown[table] >= _ANALYZE_FROM:
                await connection.execute(f"ANALYZE {scope.scope_table(table)}")
                grown[table] = 0
        gained = gains


async def _insert(connection: asyncpg.Connection, sql: str, grown: dict[str, int], table: str) -> bool:
    rows = await _execute(connection, sql)
    grown[table] += rows
    return rows > 0


async def _execute(connection: asyncpg.Connection, sql: str) -> int:
    """Run an INSERT; returns how many rows it made or changed."""
    return int((await connection.execute(sql)).rpartition(" ")[2])


def _frontier(scope: Scope, table: str, alias: str, current: int) -> tuple[Source, str]:
    """The rows that the table gained in the round before, and the condition for them."""
    source = scope.source(table, alias)
    return source, f"{alias}_scope.round = {current - 1}" if scope.scoped(table) else "true"


def _upsert(scope: Scope, table: str, select: str) -> str:
    target = scope.scope_table(table)
    return (
        f"INSERT INTO {target} AS kept (oid, tid, how, round) {select} "
        "ON CONFLICT (oid, tid) DO UPDATE SET how = excluded.how, round = excluded.round WHERE excluded.how < kept.how"
    )


def _not_yet(scope: Scope, table: str, alias: str, how: str) -> str:
    """A join that keeps the rows ``alias`` which are not in, or only by a weaker word: most of what is found again is.

    Each row is found once at most: what an edge points at is unique.
    """
    return (
        f"LEFT JOIN {scope.scope_table(table)} known ON known.tid = {alias}.ctid AND known.oid = {alias}.tableoid "
        f"WHERE (known.oid IS NULL OR known.how > {how})"
    )


def _travel_sql(scope: Scope, edge: TravelEdge, current: int) -> str:
    parent, condition = _frontier(scope, edge.parent, "p", current)
    child = qualified(scope.schema.tables[edge.child])
    conditions = [condition, f"{parent.how} < {How.STUB:d}"]
    conditions += [f"c.{quote(column)} IS NULL" for column in edge.unset]
    if edge.equal:
        # A shared row brings only what no other business owns with it.
        conditions.append(f"({parent.how} = {How.OWN:d} OR NOT {scope.ownership.theirs(edge.child, 'c')})")
    return _upsert(
        scope,
        edge.child,
        f"SELECT c.tableoid, c.ctid, {parent.how}, {current} FROM {parent.clause} "
        f"JOIN {child} c ON c.{quote(edge.column)} = p.{quote(edge.parent_column)} "
        f"{_not_yet(scope, edge.child, 'c', parent.how)} AND {' AND '.join(conditions)}",
    )


def _need_sql(scope: Scope, edge: NeedEdge, current: int) -> str:
    child, condition = _frontier(scope, edge.child, "c", current)
    parent = qualified(scope.schema.tables[edge.parent])
    pairs = zip(edge.columns, edge.parent_columns, strict=True)
    join = " AND ".join(f"p.{quote(theirs)} = n.{quote(ours)}" for ours, theirs in pairs)
    columns = ", ".join(f"c.{quote(column)}" for column in edge.columns)
    theirs = scope.ownership.theirs(edge.parent, "p")
    if scope.all_but_theirs:
        # All other rows are in: look for the few that are not, instead of through all that refer to something.
        needed = " AND ".join(
            f"c.{quote(ours)} = p.{quote(key)}" for ours, key in zip(edge.columns, edge.parent_columns, strict=True)
        )
        return _upsert(
            scope,
            edge.parent,
            f"SELECT p.tableoid, p.ctid, {How.STUB:d}, {current} FROM {parent} p "
            f"WHERE {theirs} AND EXISTS (SELECT FROM {child.where(f'{condition} AND {needed}')})",
        )
    how = str(int(How.SHARED)) if theirs == NEVER else f"CASE WHEN {theirs} THEN {How.STUB:d} ELSE {How.SHARED:d} END"
    return _upsert(
        scope,
        edge.parent,
        f"SELECT p.tableoid, p.ctid, {how}, {current} "
        f"FROM (SELECT DISTINCT {columns} FROM {child.where(condition)}) n JOIN {parent} p ON {join} "
        f"{_not_yet(scope, edge.parent, 'p', how)}",
    )
