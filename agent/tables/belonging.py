"""Which row another row belongs to, by the columns of its table: the steps that inference goes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.tables.catalogue import Origin, TableClass, TableRule
from agent.tables.errors import BadCatalogue
from agent.tables.schema import Schema, Table


def target_of(table: Table, column: str, rule: TableRule, schema: Schema) -> tuple[str, str] | None:
    """The table and column that ``column`` points at: a foreign key of its own, else a declared reference."""
    key = table.foreign_key_of(column)
    if key:
        return key.references, key.references_columns[0]
    target = rule.references.get(column)
    if target and target in schema.tables:
        primary = schema.tables[target].primary_key
        if primary and len(primary.columns) == 1:
            return target, primary.columns[0]
    return None


def refers_to(table: Table, column: str, target: str) -> bool:
    """Whether the column alone is a foreign key to that table."""
    key = table.foreign_key_of(column)
    return key is not None and key.references == target


def required_parents(table: Table) -> tuple[str, ...]:
    """Single required columns with a foreign key to another table, in column order."""
    return tuple(column for column, _ in parents_of(table, required=True))


def parents_of(table: Table, *, required: bool) -> tuple[tuple[str, str], ...]:
    """Single columns with a foreign key to another table, in column order, each with that table."""
    found = []
    for column in table.columns:
        key = table.foreign_key_of(column.name)
        if key and key.references != table.name and (column.not_null or not required):
            found.append((column.name, key.references))
    return tuple(found)


def leads_to_business(
    name: str, schema: Schema, rules: Mapping[str, TableRule], businesses: str, path: frozenset[str] = frozenset()
) -> bool:
    """Whether rows of the table belong, over whatever they travel with, to a business."""
    if name == businesses:
        return True
    rule = rules.get(name)
    if rule is None or rule.table_class is not TableClass.BUSINESS or rule.common or name in path:
        return False
    targets = (target_of(schema.tables[name], column, rule, schema) for column in rule.travels_with + rule.owners)
    return any(leads_to_business(target[0], schema, rules, businesses, path | {name}) for target in targets if target)


def open_circles(schema: Schema, rules: dict[str, TableRule]) -> None:
    """Leave out inferred columns of second rank by which tables would travel with each other in a circle.

    Whose a row is must be found by going up; a circle made by a user's file is refused.
    """
    for name, rule in sorted(rules.items()):
        if rule.origin is Origin.INFERRED and rule.travels_with:
            first, *others = rule.travels_with
            kept = tuple(column for column in others if not _circles(name, column, schema, rules))
            rules[name] = replace(rule, travels_with=(first, *kept))
    for name, rule in sorted(rules.items()):
        for column in rule.travels_with + rule.owners:
            if _circles(name, column, schema, rules):
                raise BadCatalogue(
                    f"tables.toml: by {column} of table {name}, tables travel with each other in a circle."
                )


def _circles(name: str, column: str, schema: Schema, rules: Mapping[str, TableRule]) -> bool:
    """Whether the row that ``column`` names travels, over others, with rows of the same table."""
    target = target_of(schema.tables[name], column, rules[name], schema)
    ahead = [target[0]] if target else []
    seen: set[str] = set()
    while ahead:
        above = ahead.pop()
        if above == name:
            return True
        rule = rules[above]
        if above in seen or rule.common or rule.table_class is not TableClass.BUSINESS:
            continue
        seen.add(above)
        targets = (target_of(schema.tables[above], each, rule, schema) for each in rule.travels_with + rule.owners)
        ahead += [target[0] for target in targets if target]
    return False
