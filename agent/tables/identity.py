"""When two rows under different ids are the same thing, and what refers to an id (DESIGN section 5). Pure.

A row of a table that belongs to no business is its natural keys: any unique key beside the primary one. A row of a
business is a document with a number, and two documents with one number are two things; only a unique key made of
references and dates alone says that there can be no second one. ``same_when`` of the catalogue adds to this, an empty
one takes it all away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Schema, Table, UniqueKey, comparable
from agent.tables.scope import travel_edges

_INTEGERS = {"smallint", "integer", "bigint"}


@dataclass(frozen=True, slots=True)
class IdColumn:
    """A column that holds ids of ``parent`` (values of its only key column), by itself or as an ``array``.

    ``cascades``: the database itself makes it follow a changed id. ``declared``: a foreign key holds it.
    """

    table: str
    column: str
    parent: str
    array: bool = False
    declared: bool = False
    cascades: bool = False


def only_key(table: Table) -> str | None:
    """The one column of the primary key; None where there is none or it has several."""
    key = table.primary_key
    return key.columns[0] if key and len(key.columns) == 1 else None


def belongs_to_business(name: str, schema: Schema, classification: Classification, path: tuple[str, ...] = ()) -> bool:
    """Whether rows of the table belong, over whatever they travel with, to a business."""
    if name == classification.businesses:
        return True
    rule = classification.rules.get(name)
    if rule is None or rule.table_class is not TableClass.BUSINESS or rule.common or name in path:
        return False
    return any(
        belongs_to_business(edge.parent, schema, classification, (*path, name))
        for edge in travel_edges(name, schema, classification)
    )


def natural_keys(name: str, schema: Schema, classification: Classification) -> tuple[UniqueKey, ...]:
    """The keys by which a row of the table is recognised under another id; () where its id alone says what it is."""
    table, rule = schema.tables[name], classification.rule(name)
    key = only_key(table)
    if key is None or rule.table_class is not TableClass.BUSINESS or name == classification.businesses:
        return ()
    if rule.same_when == () or any(key in foreign.columns for foreign in table.foreign_keys):
        return ()
    found = [
        UniqueKey("same_when " + ", ".join(columns), columns, nulls_not_distinct=True)
        for columns in rule.same_when or ()
    ]
    documents = belongs_to_business(name, schema, classification) and not rule.whole
    for unique in table.keys:
        if unique.primary or unique.columns == (key,) or unique.columns in (rule.same_when or ()):
            continue
        if not documents or _leaves_no_choice(unique, table, name, schema, classification):
            found.append(unique)
    return tuple(found)


def _leaves_no_choice(
    unique: UniqueKey, table: Table, name: str, schema: Schema, classification: Classification
) -> bool:
    """Whether the key is made of references and dates: for these parents (on that day) there is one row, or none."""
    references = {column for key in table.foreign_keys for column in key.columns}
    references |= set(classification.rule(name).references)
    columns = [table.column(column) for column in unique.columns]
    if not unique.plain or not any(column.name in references for column in columns if column):
        return False
    return all(column is not None and (column.name in references or column.type == "date") for column in columns)


def numbered_by_database(name: str, schema: Schema) -> bool:
    """Whether the ids of the table are numbers that the database gives: they say nothing on another laptop."""
    table = schema.tables[name]
    column = table.column(only_key(table) or "")
    return column is not None and column.type in _INTEGERS and bool(column.sequence or column.identity)


def id_columns(schema: Schema, classification: Classification) -> Mapping[str, tuple[IdColumn, ...]]:
    """By table: its columns that hold ids of other rows, declared or not, arrays included.

    Over a key column that itself refers on (a row that extends another), the ids are those of the furthest row.
    """
    direct = {name: _direct(schema.tables[name], schema, classification) for name in schema.tables}
    return {name: tuple(_through(column, direct, schema) for column in columns) for name, columns in direct.items()}


def _direct(table: Table, schema: Schema, classification: Classification) -> list[IdColumn]:
    found: dict[str, IdColumn] = {}
    for key in table.foreign_keys:
        for ours, theirs in zip(key.columns, key.references_columns, strict=True):
            if theirs == only_key(schema.tables[key.references]):
                cascades = key.on_update == "cascade"
                found.setdefault(ours, IdColumn(table.name, ours, key.references, False, True, cascades))
    rule = classification.rule(table.name)
    for name, target in rule.references.items():
        column = table.column(name)
        if column is None or name in found or target not in schema.tables:
            continue
        array = column.type.endswith("[]")
        theirs_column = schema.tables[target].column(only_key(schema.tables[target]) or "")
        if theirs_column and comparable(column.type.removesuffix("[]"), theirs_column.type):
            found[name] = IdColumn(table.name, name, target, array)
    return list(found.values())


def _through(column: IdColumn, direct: Mapping[str, list[IdColumn]], schema: Schema) -> IdColumn:
    parent, seen = column.parent, {column.table}
    while parent not in seen:
        seen.add(parent)
        key = only_key(schema.tables[parent])
        above = next((each for each in direct[parent] if each.column == key and not each.array), None)
        if above is None:
            break
        parent = above.parent
    return IdColumn(column.table, column.column, parent, column.array, column.declared, column.cascades)
