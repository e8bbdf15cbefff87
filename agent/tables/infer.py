"""Classifying every table of a live schema: by catalogue, else by inference (DESIGN section 3). Pure.

A table that the catalogue does not list becomes business when it says itself to which business its rows belong (a
``businessId`` column or foreign keys to businesses), when a row that it requires travels with a business, or when a
business table refers to it (then its rows come where they are needed). Everything else is unclassified and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from agent.tables.catalogue import Catalogue, Origin, TableClass, TableRule, plan_name
from agent.tables.errors import NoBusinesses
from agent.tables.schema import ForeignKey, Schema, Table

BUSINESS_COLUMNS = ("businessId", "business_id")


@dataclass(frozen=True, slots=True)
class Classification:
    """A rule for every table of one schema, and the catalogue's settings that go with them."""

    rules: Mapping[str, TableRule]
    businesses: str
    timestamps: tuple[str, ...]
    demo: str
    labels: tuple[str, ...]

    def rule(self, table: str) -> TableRule:
        return self.rules[table]

    def of_class(self, *classes: TableClass) -> tuple[str, ...]:
        """Names of the tables of these classes, sorted."""
        return tuple(sorted(name for name, rule in self.rules.items() if rule.table_class in classes))

    def timestamp(self, table: Table) -> str | None:
        """The column that says when a row was last changed, if the table has one."""
        for name in self.timestamps:
            column = table.column(name)
            if column and column.type.startswith("timestamp"):
                return name
        return None


def target_of(table: Table, column: str, rule: TableRule, schema: Schema) -> tuple[str, str] | None:
    """The table and column that ``column`` points at: a foreign key of its own, else a declared reference."""
    for key in table.foreign_keys:
        if key.columns == (column,):
            return key.references, key.references_columns[0]
    target = rule.references.get(column)
    if target and target in schema.tables:
        primary = schema.tables[target].primary_key
        if primary and len(primary.columns) == 1:
            return target, primary.columns[0]
    return None


def classify(schema: Schema, catalogue: Catalogue) -> Classification:
    """A rule for every table of the schema. Columns that this database does not have are left out of the rules.

    Raises :class:`NoBusinesses` where the database has no businesses table at all.
    """
    if catalogue.businesses not in schema.tables:
        raise NoBusinesses(f"The database has no table {catalogue.businesses!r} that this user can see.")
    rules: dict[str, TableRule] = {}
    for name, table in schema.tables.items():
        known = catalogue.rules.get(name)
        if known:
            rules[name] = _fit(known, table, schema)
    unknown = [name for name in sorted(schema.tables) if name not in rules]
    for name in unknown:
        rule = _by_business_columns(schema.tables[name], schema, catalogue)
        if rule:
            rules[name] = rule
    _by_relations(schema, catalogue, rules, unknown)
    for name in unknown:
        if name not in rules:
            rules[name] = TableRule(
                table=name,
                name=plan_name(name),
                table_class=TableClass.UNCLASSIFIED,
                origin=Origin.NONE,
                why=_why_not(schema, rules, name),
            )
    return Classification(
        rules=MappingProxyType(rules),
        businesses=catalogue.businesses,
        timestamps=catalogue.timestamps,
        demo=catalogue.demo,
        labels=catalogue.labels,
    )


def _fit(rule: TableRule, table: Table, schema: Schema) -> TableRule:
    """The rule without columns and tables that this database does not have."""
    present = {column.name for column in table.columns}
    references = {c: t for c, t in rule.references.items() if c in present and t in schema.tables}
    rule = replace(rule, references=MappingProxyType(references))

    def leads_somewhere(column: str) -> bool:
        return column in present and target_of(table, column, rule, schema) is not None

    return replace(
        rule,
        travels_with=tuple(filter(leads_somewhere, rule.travels_with)),
        owners=tuple(filter(leads_somewhere, rule.owners)),
        same_when=tuple(columns for columns in rule.same_when if set(columns) <= present),
    )


def _by_business_columns(table: Table, schema: Schema, catalogue: Catalogue) -> TableRule | None:
    businesses = schema.tables[catalogue.businesses]
    primary = businesses.primary_key
    id_type = businesses.column(primary.columns[0]).type if primary and businesses.column(primary.columns[0]) else None  # type: ignore[union-attr]
    for name in BUSINESS_COLUMNS:
        column = table.column(name)
        if column is None:
            continue
        declared = any(k.columns == (name,) and k.references == catalogue.businesses for k in table.foreign_keys)
        if not declared and column.type != id_type:
            continue
        return TableRule(
            table=table.name,
            name=plan_name(table.name),
            table_class=TableClass.BUSINESS,
            origin=Origin.INFERRED,
            travels_with=(name, *(() if column.not_null else _required_parents(table))),
            references=MappingProxyType({} if declared else {name: catalogue.businesses}),
            why=f"it has {name}",
        )
    owners = tuple(
        key.columns[0]
        for key in sorted(table.foreign_keys, key=lambda key: _position(table, key))
        if key.references == catalogue.businesses and len(key.columns) == 1
    )
    if not owners:
        return None
    return TableRule(
        table=table.name,
        name=plan_name(table.name),
        table_class=TableClass.BUSINESS,
        origin=Origin.INFERRED,
        travels_with=owners if len(owners) == 1 else (),
        owners=owners if len(owners) > 1 else (),
        why="it refers to businesses by " + ", ".join(owners),
    )


def _position(table: Table, key: ForeignKey) -> int:
    return [column.name for column in table.columns].index(key.columns[0])


def _required_parents(table: Table) -> tuple[str, ...]:
    """Single required columns with a foreign key to another table, in column order."""
    required = {column.name for column in table.columns if column.not_null}
    keys = [k for k in table.foreign_keys if len(k.columns) == 1 and k.columns[0] in required]
    return tuple(key.columns[0] for key in sorted(keys, key=lambda key: _position(table, key)) if _other(table, key))


def _other(table: Table, key: ForeignKey) -> bool:
    return key.references != table.name


def _leads_to_business(
    name: str, schema: Schema, rules: Mapping[str, TableRule], businesses: str, path: frozenset[str] = frozenset()
) -> bool:
    """Whether rows of the table belong, over whatever they travel with, to a business."""
    if name == businesses:
        return True
    rule = rules.get(name)
    if rule is None or rule.common or name in path:
        return False
    targets = (target_of(schema.tables[name], column, rule, schema) for column in rule.travels_with + rule.owners)
    return any(_leads_to_business(target[0], schema, rules, businesses, path | {name}) for target in targets if target)


def _by_relations(schema: Schema, catalogue: Catalogue, rules: dict[str, TableRule], unknown: list[str]) -> None:
    """Rules for tables with a required parent that travels, to a fixpoint; then for those that business rows need."""
    while True:
        found = {}
        for name in unknown:
            if name in rules:
                continue
            table = schema.tables[name]
            targets = {key.columns: key.references for key in table.foreign_keys}
            parents = [
                column
                for column in _required_parents(table)
                if _leads_to_business(targets[(column,)], schema, rules, catalogue.businesses)
            ]
            if parents:
                found[name] = TableRule(
                    table=name,
                    name=plan_name(name),
                    table_class=TableClass.BUSINESS,
                    origin=Origin.INFERRED,
                    travels_with=tuple(parents[:1]),
                    why=f"it belongs to {targets[(parents[0],)]} by {parents[0]}",
                )
        if not found:
            found = _needed(schema, rules, unknown)
        if not found:
            return
        rules.update(found)


def _needed(schema: Schema, rules: dict[str, TableRule], unknown: list[str]) -> dict[str, TableRule]:
    for name in sorted(schema.tables):
        rule = rules.get(name)
        if rule is None or rule.table_class is not TableClass.BUSINESS:
            continue
        for key in schema.tables[name].foreign_keys:
            if key.references in unknown and key.references not in rules and _no_device_points_at(schema, rules, key):
                return {
                    key.references: TableRule(
                        table=key.references,
                        name=plan_name(key.references),
                        table_class=TableClass.BUSINESS,
                        origin=Origin.INFERRED,
                        why=f"{name} refers to it by {', '.join(key.columns)}",
                    )
                }
    return {}


def _no_device_points_at(schema: Schema, rules: Mapping[str, TableRule], wanted: ForeignKey) -> bool:
    return not _device_pointing_at(schema, rules, wanted.references)


def _device_pointing_at(schema: Schema, rules: Mapping[str, TableRule], name: str) -> str | None:
    for other, table in sorted(schema.tables.items()):
        rule = rules.get(other)
        if rule and rule.table_class is TableClass.DEVICE and any(k.references == name for k in table.foreign_keys):
            return other
    return None


def _why_not(schema: Schema, rules: Mapping[str, TableRule], name: str) -> str:
    device = _device_pointing_at(schema, rules, name)
    if device:
        return f"the device table {device} refers to it"
    if any(k.references in schema.tables for k in schema.tables[name].foreign_keys):
        return "nothing it requires belongs to a business"
    return "nothing connects it to a business"
