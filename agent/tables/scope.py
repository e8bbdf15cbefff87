"""Which edges a backup follows, decided from schema and classification alone (DESIGN section 2). Pure.

A row comes along if what it travels with comes along (:class:`TravelEdge`), or if a row that comes along needs it
(:class:`NeedEdge`). ``agent.database.scope`` walks these edges in SQL.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification, target_of
from agent.tables.schema import Schema, comparable


@dataclass(frozen=True, slots=True)
class TravelEdge:
    """Rows of ``child`` belong to the row of ``parent`` that ``column`` names.

    ``unset`` are the columns before it in rank: the edge holds only where all of them are NULL. ``equal`` says that
    the table names several owners of equal rank.
    """

    child: str
    column: str
    parent: str
    parent_column: str
    unset: tuple[str, ...] = ()
    equal: bool = False


@dataclass(frozen=True, slots=True)
class NeedEdge:
    """Rows of ``child`` refer to rows of ``parent``. ``declared`` tells a foreign key from a catalogue reference."""

    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    declared: bool
    required: bool

    def __str__(self) -> str:
        return f"{self.child}.{'+'.join(self.columns)} -> {self.parent}"


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """All edges among business tables, and the references that leave them for other classes."""

    tables: tuple[str, ...]
    whole: tuple[str, ...]
    travels: tuple[TravelEdge, ...]
    needs: tuple[NeedEdge, ...]
    outside: tuple[NeedEdge, ...]


def travel_edges(table_name: str, schema: Schema, classification: Classification) -> tuple[TravelEdge, ...]:
    """The edges by which rows of one table belong to others, in rank order."""
    rule = classification.rule(table_name)
    table = schema.tables[table_name]
    edges: list[TravelEdge] = []
    for column in rule.travels_with or rule.owners:
        target = target_of(table, column, rule, schema)
        if target and classification.rule(target[0]).table_class is TableClass.BUSINESS:
            unset = () if rule.owners else tuple(edge.column for edge in edges)
            edges.append(TravelEdge(table_name, column, *target, unset=unset, equal=bool(rule.owners)))
    return tuple(edges)


def need_edges(table_name: str, schema: Schema, classification: Classification) -> tuple[NeedEdge, ...]:
    """The references of one table: its foreign keys, and the catalogue's where the column has none."""
    table = schema.tables[table_name]
    rule = classification.rule(table_name)
    required = {column.name for column in table.columns if column.not_null}
    edges = [
        NeedEdge(
            table_name,
            key.columns,
            key.references,
            key.references_columns,
            declared=True,
            required=set(key.columns) <= required,
        )
        for key in table.foreign_keys
    ]
    declared = {key.columns for key in table.foreign_keys}
    for column in rule.references:
        target = target_of(table, column, rule, schema)
        if (column,) in declared or target is None:
            continue
        ours = table.column(column)
        theirs = schema.tables[target[0]].column(target[1])
        if ours and theirs and comparable(ours.type, theirs.type):
            edges.append(NeedEdge(table_name, (column,), target[0], (target[1],), declared=False, required=False))
    return tuple(edges)


def scope_rules(schema: Schema, classification: Classification) -> ScopeRules:
    """Every edge over the business tables of a schema."""
    tables = classification.of_class(TableClass.BUSINESS)
    needs = [edge for name in tables for edge in need_edges(name, schema, classification)]
    inside = set(tables)
    return ScopeRules(
        tables=tables,
        whole=tuple(name for name in tables if classification.rule(name).whole),
        travels=tuple(edge for name in tables for edge in travel_edges(name, schema, classification)),
        needs=tuple(edge for edge in needs if edge.parent in inside),
        outside=tuple(edge for edge in needs if edge.parent not in inside),
    )
