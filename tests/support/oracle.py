"""Which rows a backup must take, worked out the slow way: every row fetched by plain SELECT, the rule of DESIGN section
2 applied in Python to a fixpoint. Knows schema and classification, and nothing of the SQL and edges of the agent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.database.connect import connect
from agent.database.names import qualified, quote
from agent.database.reflect import reflect
from agent.tables.catalogue import Catalogue, TableClass, load_catalogue
from agent.tables.infer import Classification, classify
from agent.tables.schema import Schema
from tests.support.backups import Opened

OWN, SHARED, STUB = 1, 2, 3
NULL = "\\N"
Row = dict[str, str]
Place = tuple[str, int]


@dataclass
class Shop:
    """All rows of the business tables of a database, as COPY text by column."""

    schema: Schema
    classification: Classification
    rows: dict[str, list[Row]]
    _indexes: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], list[int]]] = field(default_factory=dict)

    def find(self, table: str, columns: tuple[str, ...], values: tuple[str, ...]) -> list[Place]:
        if NULL in values:
            return []
        index = self._indexes.get((table, columns))
        if index is None:
            index = self._indexes[table, columns] = defaultdict(list)
            for number, row in enumerate(self.rows[table]):
                index[tuple(row[name] for name in columns)].append(number)
        return [(table, number) for number in index.get(values, ())]

    def row(self, place: Place) -> Row:
        return self.rows[place[0]][place[1]]

    def references(self, table: str) -> Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]:
        """Foreign keys, and the references that the catalogue declares, to business tables."""
        declared = set()
        for key in self.schema.tables[table].foreign_keys:
            declared.add(key.columns)
            if key.references in self.rows:
                yield key.columns, key.references, key.references_columns
        for column, target in self.classification.rule(table).references.items():
            primary = self.schema.tables[target].primary_key
            if (column,) not in declared and target in self.rows and primary and len(primary.columns) == 1:
                yield (column,), target, primary.columns

    def above(self, place: Place) -> list[tuple[str, str, tuple[str, ...], bool]]:
        """What decides whose a row is: (value, table, its columns, several owners) of each set column that counts."""
        table, _ = place
        rule, row = self.classification.rule(table), self.row(place)
        targets = {columns: (target, theirs) for columns, target, theirs in self.references(table)}
        found = []
        for column in rule.owners or rule.travels_with:
            if (column,) in targets and row[column] != NULL:
                found.append((row[column], *targets[column,], bool(rule.owners)))
        return found if rule.owners else found[:1]

    def businesses_of(self, place: Place) -> set[str]:
        """The businesses to which a row belongs, by its decider chain."""
        table, _ = place
        businesses = self.classification.businesses
        primary = self.schema.tables[businesses].primary_key
        assert primary is not None
        if table == businesses:
            return {self.row(place)[primary.columns[0]]}
        if self.classification.rule(table).common:
            return set()
        found: set[str] = set()
        for value, target, columns, _ in self.above(place):
            if target == businesses and columns == primary.columns:
                found.add(value)
                continue
            for parent in self.find(target, columns, (value,)):
                found |= self.businesses_of(parent)
        return found


async def look(dsn: str, catalogue: Catalogue | None = None) -> Shop:
    """Read every business table of a database."""
    connection = await connect(dsn)
    try:
        schema = await reflect(connection)
        classification = classify(schema, catalogue or load_catalogue())
        rows = {
            name: await table_rows(connection, schema, name) for name in classification.of_class(TableClass.BUSINESS)
        }
    finally:
        await connection.close()
    return Shop(schema, classification, rows)


async def table_rows(connection: Any, schema: Schema, name: str) -> list[Row]:
    """The rows of a table as COPY text fields by column."""
    table = schema.tables[name]
    chunks: list[bytes] = []

    async def keep(data: bytes) -> None:
        chunks.append(data)

    names = [column.name for column in table.columns]
    if not names:
        return []
    selected = ", ".join(map(quote, names))
    await connection.copy_from_query(f"SELECT {selected} FROM {qualified(table)}", output=keep, format="text")
    lines = b"".join(chunks).decode().split("\n")[:-1]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines]


def business_rows(shop: Shop, business: str) -> dict[Place, int]:
    """How each row comes in that a backup of one business takes."""

    def is_ours(candidate: str) -> bool:
        return candidate == business

    whole = {name for name in shop.rows if shop.classification.rule(name).whole}
    start = {(name, number): SHARED for name in whole for number in range(len(shop.rows[name]))}
    primary = shop.schema.tables[shop.classification.businesses].primary_key
    assert primary is not None
    for place in shop.find(shop.classification.businesses, primary.columns, (business,)):
        start[place] = OWN
    return _fixpoint(shop, start, is_ours, fixed=whole, descend=True)


def full_rows(shop: Shop, left_out: set[str]) -> dict[Place, int]:
    """How each row comes in that a full backup without these businesses takes."""

    def is_ours(candidate: str) -> bool:
        return candidate not in left_out

    start = {
        (name, number): OWN
        for name, rows in shop.rows.items()
        for number in range(len(rows))
        if not _theirs(shop, (name, number), is_ours)
    }
    return _fixpoint(shop, start, is_ours, fixed=set(), descend=False)


def _theirs(shop: Shop, place: Place, is_ours: Callable[[str], bool]) -> bool:
    belongs = shop.businesses_of(place)
    return bool(belongs) and not any(map(is_ours, belongs))


def _fixpoint(
    shop: Shop, start: dict[Place, int], is_ours: Callable[[str], bool], *, fixed: set[str], descend: bool
) -> dict[Place, int]:
    children: dict[Place, list[tuple[Place, bool]]] = defaultdict(list)
    for name, rows in shop.rows.items() if descend else ():
        for number in range(len(rows)):
            for value, target, columns, several in shop.above((name, number)):
                for parent in shop.find(target, columns, (value,)):
                    children[parent].append(((name, number), several))
    how = dict(start)
    work = list(start)

    def include(place: Place, word: int) -> None:
        if word < how.get(place, 9) and not (place[0] in fixed and place in how):
            how[place] = word
            work.append(place)

    while work:
        place = work.pop()
        word = how[place]
        if word != STUB:
            for child, several in children[place]:
                if not several or word == OWN or not _theirs(shop, child, is_ours):
                    include(child, word)
        row = shop.row(place)
        for columns, target, theirs in shop.references(place[0]):
            for parent in shop.find(target, theirs, tuple(row[name] for name in columns)):
                include(parent, STUB if _theirs(shop, parent, is_ours) else SHARED)
    return how


def disagreements(shop: Shop, expected: dict[Place, int], opened: Opened) -> list[str]:
    """How a bundle differs from what it must hold: each row of each table, stubs apart."""
    found = []
    wanted: dict[tuple[str, bool], Counter[tuple[str, ...]]] = defaultdict(Counter)
    columns = {entry.table: [column.name for column in entry.columns] for entry in opened.manifest.tables}
    for place, word in expected.items():
        row = shop.row(place)
        wanted[place[0], word == STUB][tuple(row[name] for name in columns[place[0]])] += 1
    for name in shop.rows:
        for stub, rows in ((False, opened.rows), (True, opened.stubs)):
            got = Counter(tuple(row[column] for column in columns[name]) for row in rows.get(name, ()))
            what = f"{name}{' (stubs)' if stub else ''}"
            found += [f"{what}: lacks {row}" for row in wanted[name, stub] - got]
            found += [f"{what}: should not have {row}" for row in got - wanted[name, stub]]
    return found


def dangling(shop: Shop, opened: Opened) -> list[str]:
    """References of the bundle's rows to business tables that do not resolve within the bundle alone."""
    found = []
    for name in shop.rows:
        for columns, target, theirs in shop.references(name):
            have = {
                tuple(row[column] for column in theirs)
                for row in [*opened.rows.get(target, ()), *opened.stubs.get(target, ())]
            }
            for row in [*opened.rows.get(name, ()), *opened.stubs.get(name, ())]:
                values = tuple(row[column] for column in columns)
                if NULL not in values and values not in have and shop.find(target, theirs, values):
                    found.append(f"{name}.{'+'.join(columns)} = {values} -> {target}")
    return found
