"""Rows for every table of a schema that need not be known before, by its types and keys alone.

Each row is made for one business. What it refers to is of the same business, or of a table that belongs to none (a
table without a way to ``businesses``): then any row will do, so that such rows are shared. A second reference to
``businesses`` in one row names another business, as in a loan.
"""

from __future__ import annotations

import itertools
import random
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.database.names import qualified, quote
from agent.database.reflect import reflect
from agent.tables.schema import ForeignKey, Schema, Table
from tests.support.values import value_text

ROOT = "businesses"
Row = dict[str, str | None]
Fixed = Mapping[tuple[str, str], Callable[[int], str | None]]
PLATFORM_VALUES: Fixed = {
    (ROOT, "name"): lambda business: f"Business {business + 1}",
    (ROOT, "type"): lambda business: ("restaurant", "grocery", "hardware")[business % 3],
    (ROOT, "isDemo"): lambda business: "false",
}
_TRIES = 60


def catalogue_references() -> dict[tuple[str, str], str]:
    """The undeclared references that our catalogue names: (table, column) to table."""
    text = (Path(__file__).parents[2] / "agent" / "tables" / "platform.toml").read_text("utf-8")
    return {
        (table, column): target
        for group in tomllib.loads(text)["group"]
        for table, facts in group["tables"].items()
        for column, target in facts.get("references", {}).items()
    }


async def fill_everything(
    connection: Any,
    *,
    seed: int = 1,
    businesses: int = 3,
    per_business: int = 2,
    references: Mapping[tuple[str, str], str] | None = None,
    fixed: Fixed = PLATFORM_VALUES,
) -> dict[str, int]:
    """Put up to ``per_business`` rows for each of ``businesses`` into every table; returns how many each table has.

    ``references`` names columns that refer to a table's primary key without a foreign key (default: the catalogue's;
    beside them, a column whose name is a foreign key elsewhere is filled as there). ``fixed`` gives values of certain
    columns by the number of the business. Raises ``LookupError`` where a table gets no row.
    """
    schema = await reflect(connection)
    filler = _Filler(
        connection, schema, random.Random(seed), catalogue_references() if references is None else references
    )
    filler.fixed = fixed
    async with connection.transaction():
        for table in _parents_first(schema):
            for business in range(businesses):
                for _ in range(1 if table.name == ROOT else per_business):
                    await filler.add(table, business)
            if not filler.rows[table.name]:
                raise LookupError(f"no row of {table.name} fits its keys")
        await filler.close_cycles()
    return {name: len(rows) for name, rows in filler.rows.items()}


class _Filler:
    fixed: Fixed

    def __init__(
        self, connection: Any, schema: Schema, rng: random.Random, references: Mapping[tuple[str, str], str]
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._rng = rng
        self._links = {table.name: _links(schema, table, references) for table in schema.tables.values()}
        self._owned = self._tables_with_owner()
        self._numbers = itertools.count(1)
        self.rows: dict[str, list[tuple[int, Row]]] = defaultdict(list)

    def _tables_with_owner(self) -> set[str]:
        owned = {ROOT}
        while True:
            more = {
                name
                for name, links in self._links.items()
                if name not in owned and any(link.references in owned for link in links)
            }
            more -= {"users"}  # users point at a business last visited, and belong to none
            if not more:
                return owned
            owned |= more

    async def add(self, table: Table, business: int) -> None:
        """Insert one row, or none where no choice of parents leaves its unique keys unique."""
        for _ in range(_TRIES):
            row = self._row(table, business)
            if row is not None and self._unique(table, row):
                names = [name for name in row if row[name] is not None]
                types = {column.name: column.type for column in table.columns}
                values = ", ".join(f"${place}::text::{types[name]}" for place, name in enumerate(names, 1))
                back = ", ".join(f"{quote(column.name)}::text" for column in table.columns)
                overriding = "OVERRIDING SYSTEM VALUE" if any(column.identity for column in table.columns) else ""
                body = f"({', '.join(map(quote, names))}) {overriding} VALUES ({values})" if names else "DEFAULT VALUES"
                made = await self._connection.fetchrow(
                    f"INSERT INTO {qualified(table)} {body} RETURNING {back}", *(row[name] for name in names)
                )
                self.rows[table.name].append((business, dict(made)))
                return

    async def close_cycles(self) -> None:
        """Set nullable references that were left out because their table had no rows yet, for half of the rows."""
        for table in self._schema.tables.values():
            key = table.identity
            for link in self._links[table.name]:
                if not key or not self._nullable(table, link) or set(link.columns) & set(key):
                    continue
                for business, row in self.rows[table.name]:
                    if any(row[name] is not None for name in link.columns) or self._rng.random() < 0.5:
                        continue
                    target = self._pick(table, link, business)
                    changed = {} if target is None else dict(zip(link.columns, target, strict=True))
                    if not changed or not self._unique(table, {**row, **changed}, apart_from=row):
                        continue
                    sets = ", ".join(f"{quote(name)} = ${place}" for place, name in enumerate(changed, 1))
                    where = " AND ".join(
                        f"{quote(name)}::text = ${place}" for place, name in enumerate(key, len(changed) + 1)
                    )
                    types = {column.name: column.type for column in table.columns}
                    for place, name in enumerate(changed, 1):
                        sets = sets.replace(f"= ${place}", f"= ${place}::text::{types[name]}", 1)
                    await self._connection.execute(
                        f"UPDATE {qualified(table)} SET {sets} WHERE {where}",
                        *changed.values(),
                        *(row[name] for name in key),
                    )
                    row.update(changed)

    def _row(self, table: Table, business: int) -> Row | None:
        number = next(self._numbers)
        keyed = {name for key in table.keys for name in key.columns} | set(table.identity)
        row: Row = {}
        for link in self._links[table.name]:
            if all(name in row for name in link.columns):
                continue
            leave_out = self._nullable(table, link) and self._rng.random() < 0.25
            target = None if leave_out else self._pick(table, link, business)
            if target is not None:
                row.update(zip(link.columns, target, strict=True))
            elif self._nullable(table, link):
                row.update(dict.fromkeys(link.columns))
            else:
                return None
        for column in table.columns:
            if (table.name, column.name) in self.fixed:
                row[column.name] = self.fixed[table.name, column.name](business)
            elif column.name in row or column.generated or column.identity or column.sequence:
                continue
            elif not column.not_null and column.name not in keyed and self._rng.random() < 0.2:
                row[column.name] = None
            else:
                unique = f"{column.name}-{number}" if column.name in keyed else None
                row[column.name] = value_text(column.type, self._rng, self._schema.enums, unique=unique)
        return row if self._resolves(table, row) else None

    def _pick(self, table: Table, link: ForeignKey, business: int) -> tuple[str, ...] | None:
        """The values of a row of the table that ``link`` points at, of the right business; None where there is none."""
        rows = self.rows[link.references]
        if link.references == ROOT:
            links = [each for each in self._links[table.name] if each.references == ROOT]
            wanted = business + links.index(link) + (table.name == ROOT)
            count = len({owner for owner, _ in rows}) or 1
            choice = [row for owner, row in rows if owner == wanted % count]
        elif link.references in self._owned:
            choice = [row for owner, row in rows if owner == business]
        else:
            choice = [row for _, row in rows]
        found = [tuple(row[name] for name in link.references_columns) for row in choice]
        complete = [each for each in found if None not in each]
        return self._rng.choice(complete) if complete else None  # type: ignore[return-value]

    def _nullable(self, table: Table, link: ForeignKey) -> bool:
        return any(not column.not_null for column in table.columns if column.name in link.columns)

    def _resolves(self, table: Table, row: Row) -> bool:
        for link in table.foreign_keys:
            values = tuple(row.get(name) for name in link.columns)
            known = {tuple(other[name] for name in link.references_columns) for _, other in self.rows[link.references]}
            if None not in values and values not in known:
                return False
        return True

    def _unique(self, table: Table, row: Row, apart_from: Row | None = None) -> bool:
        for key in table.keys:
            values = tuple(row.get(name) for name in key.columns)
            if not key.plain or None in values:
                continue
            others = (other for _, other in self.rows[table.name] if other is not apart_from)
            if any(tuple(other[name] for name in key.columns) == values for other in others):
                return False
        return True


def _links(schema: Schema, table: Table, references: Mapping[tuple[str, str], str]) -> list[ForeignKey]:
    """What the table refers to: foreign keys, widest first, then references without one."""
    declared = sorted(table.foreign_keys, key=lambda link: (-len(link.columns), link.name))
    taken = {name for link in declared for name in link.columns} | _own_identity(table)
    usual = _usual_targets(schema)
    links = list(declared)
    for column in table.columns:
        name = column.name
        target = schema.tables.get(references.get((table.name, name), ""))
        if name in taken or column.type.endswith("[]"):
            continue
        if target and target.primary_key:
            links.append(ForeignKey("", (name,), target.name, target.primary_key.columns))
        elif name in usual and usual[name][0] != table.name:
            links.append(ForeignKey("", (name,), *usual[name]))
    return links


def _own_identity(table: Table) -> set[str]:
    return {key.columns[0] for key in table.keys if len(key.columns) == 1}


def _usual_targets(schema: Schema) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For each column name that is a foreign key somewhere: where it points most often."""
    counts: dict[str, Counter[tuple[str, tuple[str, ...]]]] = defaultdict(Counter)
    for table in schema.tables.values():
        for link in table.foreign_keys:
            if len(link.columns) == 1:
                counts[link.columns[0]][link.references, link.references_columns] += 1
    return {name: counter.most_common(1)[0][0] for name, counter in counts.items()}


def _parents_first(schema: Schema) -> list[Table]:
    """The tables, each after what its required foreign keys refer to, and after the others where that is possible."""
    order: dict[str, Table] = {}

    def visit(name: str, path: tuple[str, ...], required_only: bool) -> None:
        if name in order or name in path:
            return
        table = schema.tables[name]
        required = {column.name for column in table.columns if column.not_null}
        for link in table.foreign_keys:
            if set(link.columns) <= required:
                visit(link.references, (*path, name), required_only)
        for link in table.foreign_keys:
            if not required_only and not set(link.columns) <= required:
                visit(link.references, (*path, name), required_only=True)
        order.setdefault(name, table)

    for first in (ROOT, *schema.tables):
        if first in schema.tables:
            visit(first, (), required_only=False)
    return list(order.values())
