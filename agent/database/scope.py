"""Which rows a backup takes, as sources of SQL (DESIGN section 2). ``agent.database.scope_walk`` finds them.

Most rows are in because of whose they are, and a condition tells those (:meth:`Ownership.own`): nothing is kept of
them. The few others, shared rows and stubs, each have a line in the scope table: temporary, with the row's address in
the snapshot (``tableoid``, ``ctid``: they cannot move while the snapshot is held, and work for tables without a key)
and how it came in. It is made before the transaction, because that one is read-only: nothing in a backup can change a
row of the platform, whatever the SQL here says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import asyncpg

from agent.database.names import qualified
from agent.database.ownership import NEVER, Ownership
from agent.database.scalars import scalars
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from agent.tables.scope import ScopeRules

SCOPE_TABLE = "pg_temp.backroom_scope"
REFERENCES_TABLE = "pg_temp.backroom_references"


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
    """Some of the included rows of a table: a FROM clause, a condition, and how each row came in as SQL."""

    clause: str
    condition: str
    how: str

    @property
    def simple(self) -> bool:
        """Whether a row tells by itself that it is in, without rows of other tables."""
        return "SELECT" not in self.condition and " JOIN " not in self.clause

    def where(self, *conditions: str) -> str:
        """FROM clause and condition, with more conditions."""
        return f"{self.clause} WHERE {' AND '.join((self.condition, *conditions))}"


async def prepare_scope(connection: asyncpg.Connection) -> None:
    """Make the scope table, empty, and the one of references. To be called outside a read-only transaction."""
    await connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS backroom_scope (place smallint NOT NULL, oid oid NOT NULL, tid tid NOT NULL, "
        "how smallint NOT NULL, round smallint NOT NULL, PRIMARY KEY (place, tid, oid)); "
        "CREATE TEMP TABLE IF NOT EXISTS backroom_references (source smallint NOT NULL, key text[] NOT NULL); "
        "CREATE INDEX IF NOT EXISTS backroom_references_source ON pg_temp.backroom_references (source); "
        f"TRUNCATE {SCOPE_TABLE}, {REFERENCES_TABLE}"
    )


async def forget_scope(connection: asyncpg.Connection) -> None:
    """Empty the scope table, so that it can be filled again in the same snapshot."""
    await connection.execute(f"DELETE FROM {SCOPE_TABLE}; DELETE FROM {REFERENCES_TABLE}")


class Scope:
    """The rows of one backup. ``complete`` are the tables of which every row is in, with how they count.

    ``lines`` counts the lines of each table in the scope table; ``begun_rows`` the rows without a line, of the tables
    of which that is known already. ``references`` are those columns of which the walk has kept the values that rows
    without a line have, under a number: each value once, and of all that is left out where nearly everything is in.
    ``all_own`` are tables of which the walk found no row that is not own, so that it did not look who refers to them.
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
        self.lines: Counter[str] = Counter()
        self.begun_rows: dict[str, int] = {}
        self.references: dict[tuple[str, tuple[str, ...]], int] = {}
        self.all_own: frozenset[str] = frozenset()
        self._places = {name: place for place, name in enumerate(rules.tables)}

    def scoped(self, table: str) -> bool:
        """Whether some rows of the table may be out (else it is complete, or not in the backup at all)."""
        return table in self._places and table not in self.complete

    def place(self, table: str) -> int:
        """The number of a scoped table in the scope table."""
        return self._places[table]

    def own(self, table: str, alias: str) -> str:
        """The rows that are in because of whose they are, or because all are; boolean SQL, never NULL."""
        return self.ownership.own(table, alias) if self.scoped(table) else "true"

    def begun(self, table: str, alias: str) -> Source | None:
        """The rows that are in without a line."""
        own = self.own(table, alias)
        if own == NEVER:
            return None
        how = self.complete.get(table, How.OWN)
        return Source(f"{qualified(self.schema.tables[table])} {alias}", own, str(int(how)))

    def added(self, table: str, alias: str) -> Source | None:
        """The rows that have a line."""
        if not self.lines[table]:
            return None
        scope = f"{alias}_scope"
        return Source(
            f"{qualified(self.schema.tables[table])} {alias} JOIN {SCOPE_TABLE} {scope} "
            f"ON {scope}.tid = {alias}.ctid AND {scope}.oid = {alias}.tableoid",
            f"{scope}.place = {self.place(table)}",
            f"{scope}.how",
        )

    def sources(self, table: str, alias: str = "t", *, stubs: bool | None = None) -> tuple[Source, ...]:
        """The included rows of a table, each in one of the sources; ``stubs`` asks for those alone, or the others."""
        found = [] if stubs else [self.begun(table, alias)]
        added = self.added(table, alias) if stubs is None else self.added_rows(table, alias, stubs=stubs)
        return tuple(source for source in (*found, added) if source)

    def added_rows(self, table: str, alias: str, *, stubs: bool) -> Source | None:
        """The rows that have a line: the stubs among them, or the others."""
        added = self.added(table, alias)
        which = f"{alias}_scope.how {'=' if stubs else '<'} {How.STUB:d}"
        return added and Source(added.clause, f"{added.condition} AND {which}", added.how)

    def selected(self, table: str, columns: str, *, stubs: bool) -> str:
        """A query of these columns (of ``t``) of the table's stubs, or of its other rows."""
        parts = [f"SELECT {columns} FROM {source.where()}" for source in self.sources(table, stubs=stubs)]
        return (
            " UNION ALL ".join(parts) or f"SELECT {columns} FROM {qualified(self.schema.tables[table])} t WHERE false"
        )

    async def count(self, connection: asyncpg.Connection, tables: Sequence[str]) -> dict[str, Counted]:
        """Exact rows of each table in the scope, stubs apart."""
        lines = await connection.fetch(
            f"SELECT place, count(*) FILTER (WHERE how < {How.STUB:d}) AS rows, "
            f"count(*) FILTER (WHERE how = {How.STUB:d}) AS stubs FROM {SCOPE_TABLE} GROUP BY place"
        )
        added = {line["place"]: Counted(line["rows"], line["stubs"]) for line in lines}
        asked = {
            table: f"(SELECT count(*) FROM {source.where()})"
            for table in tables
            if table not in self.begun_rows and (source := self.begun(table, "t"))
        }
        self.begun_rows |= await scalars(connection, asked)
        counted = {}
        for table in tables:
            more = added.get(self.place(table), Counted(0, 0)) if self.scoped(table) else Counted(0, 0)
            counted[table] = Counted(self.begun_rows.get(table, 0) + more.rows, more.stubs)
        return counted
