"""Classifying every table of a live schema: by catalogue, else by inference (DESIGN section 3). Pure.

A table that the catalogue does not list becomes business when it says itself to which business its rows belong (a
``businessId`` column or foreign keys to businesses), when a row that it requires travels with a business, or when a
business table refers to it (then its rows come where they are needed). Everything else is unclassified and named; so
is a table whose columns that say where it belongs are all gone from this database, unless others say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from agent.tables.belonging import leads_to_business, open_circles, parents_of, refers_to, required_parents
from agent.tables.belonging import target_of as target_of
from agent.tables.catalogue import Catalogue, Origin, TableClass, TableRule, plan_name
from agent.tables.errors import NoBusinesses
from agent.tables.schema import Schema, Table, comparable

BUSINESS_COLUMNS = ("businessId", "business_id")


@dataclass(frozen=True, slots=True)
class Classification:
    """A rule for every table of one schema, and the catalogue's settings that go with them."""

    rules: Mapping[str, TableRule]
    businesses: str
    timestamps: tuple[str, ...]
    demo: str
    labels: tuple[str, ...]
    conflicts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

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


def require_businesses(schema: Schema, catalogue: Catalogue) -> None:
    """Raises :class:`NoBusinesses` where the database has no businesses table at all."""
    if catalogue.businesses not in schema.tables:
        raise NoBusinesses(f"The database has no table {catalogue.businesses!r} that this user can see.")


def classify(schema: Schema, catalogue: Catalogue) -> Classification:
    """A rule for every table of the schema. Columns that this database does not have are left out of the rules.

    Raises :class:`NoBusinesses` where the database has no businesses table at all, :class:`BadCatalogue` where tables
    would travel with each other in a circle.
    """
    require_businesses(schema, catalogue)
    rules: dict[str, TableRule] = {}
    adrift: dict[str, TableRule] = {}
    for name, table in schema.tables.items():
        known = catalogue.rules.get(name)
        if known:
            rule = _fit(known, table, schema)
            (adrift if _lost_its_way(known, rule) else rules)[name] = rule
        elif name in catalogue.never:
            rules[name] = TableRule(
                table=name,
                name=plan_name(name),
                table_class=TableClass.TRANSIENT,
                origin=Origin.CATALOGUE,
                why="a tool's notes about this one database",
            )
    if catalogue.businesses not in rules:
        rules[catalogue.businesses] = TableRule(
            table=catalogue.businesses,
            name=plan_name(catalogue.businesses),
            table_class=TableClass.BUSINESS,
            origin=Origin.INFERRED,
            why="its rows are the businesses",
        )
    unknown = [name for name in sorted(schema.tables) if name not in rules]
    for name in unknown:
        found = _by_business_columns(schema.tables[name], schema, catalogue)
        if found:
            rules[name] = found
    _by_relations(schema, catalogue, rules, unknown, adrift)
    for name in unknown:
        if name not in rules:
            rules[name] = TableRule(
                table=name,
                name=plan_name(name),
                table_class=TableClass.UNCLASSIFIED,
                origin=Origin.NONE,
                why=_why_adrift(catalogue.rules[name]) if name in adrift else _why_not(schema, rules, name),
            )
        elif name in adrift:
            rules[name] = _with_known(rules[name], adrift[name])
    open_circles(schema, rules)
    return Classification(
        rules=MappingProxyType(rules),
        businesses=catalogue.businesses,
        timestamps=catalogue.timestamps,
        demo=catalogue.demo,
        labels=catalogue.labels,
        conflicts=catalogue.conflicts,
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
        same_when=None
        if rule.same_when is None
        else tuple(columns for columns in rule.same_when if set(columns) <= present),
        greatest=tuple(filter(present.__contains__, rule.greatest)),
        pending=rule.pending
        if rule.pending and {rule.pending.table, rule.pending.row, rule.pending.done} <= present
        else None,
    )


def _lost_its_way(known: TableRule, fitted: TableRule) -> bool:
    """Whether the columns that say where the rows belong are all gone: they would pass for shared rows."""
    return known.table_class is TableClass.BUSINESS and fitted.shared and not (known.shared or known.common)


def _with_known(inferred: TableRule, known: TableRule) -> TableRule:
    """What was inferred about where rows belong, beside what is known of the table."""
    return replace(
        known,
        origin=inferred.origin,
        why=inferred.why,
        travels_with=inferred.travels_with,
        owners=inferred.owners,
        references=MappingProxyType({**known.references, **inferred.references}),
    )


def _by_business_columns(table: Table, schema: Schema, catalogue: Catalogue) -> TableRule | None:
    businesses = schema.tables[catalogue.businesses]
    primary = businesses.primary_key
    id_column = businesses.column(primary.columns[0]) if primary and len(primary.columns) == 1 else None
    for name in BUSINESS_COLUMNS:
        column = table.column(name)
        if column is None:
            continue
        key = table.foreign_key_of(name)
        fits = id_column is not None and comparable(column.type, id_column.type)
        if (key and key.references != catalogue.businesses) or (key is None and not fits):
            continue
        return TableRule(
            table=table.name,
            name=plan_name(table.name),
            table_class=TableClass.BUSINESS,
            origin=Origin.INFERRED,
            travels_with=(name, *(() if column.not_null else required_parents(table))),
            references=MappingProxyType({} if key else {name: catalogue.businesses}),
            why=f"it has {name}",
        )
    owners = tuple(c.name for c in table.columns if refers_to(table, c.name, catalogue.businesses))
    if not owners:
        return None
    why = "it refers to businesses by " + ", ".join(owners)
    if not any(column.not_null for column in table.columns if column.name in owners):
        # A row that names no business still belongs to the row that it requires.
        owners += required_parents(table)
    several = sum(refers_to(table, column, catalogue.businesses) for column in owners) > 1
    return TableRule(
        table=table.name,
        name=plan_name(table.name),
        table_class=TableClass.BUSINESS,
        origin=Origin.INFERRED,
        travels_with=() if several else owners,
        owners=owners if several else (),
        why=why,
    )


def _by_relations(
    schema: Schema,
    catalogue: Catalogue,
    rules: dict[str, TableRule],
    unknown: list[str],
    adrift: Mapping[str, TableRule],
) -> None:
    """Rules for tables with a required parent that travels, to a fixpoint; then for those that business rows need."""
    while True:
        found = {}
        for name in unknown:
            if name in rules:
                continue
            parents = [
                (column, parent)
                for column, parent in parents_of(schema.tables[name], required=True)
                if leads_to_business(parent, schema, rules, catalogue.businesses)
            ]
            if parents:
                column, parent = parents[0]
                found[name] = TableRule(
                    table=name,
                    name=plan_name(name),
                    table_class=TableClass.BUSINESS,
                    origin=Origin.INFERRED,
                    travels_with=(column,),
                    why=f"it belongs to {parent} by {column}",
                )
        if not found:
            found = _needed(schema, catalogue, rules, {name for name in unknown if name not in adrift})
        if not found:
            return
        rules.update(found)


def _needed(
    schema: Schema, catalogue: Catalogue, rules: dict[str, TableRule], unknown: set[str]
) -> dict[str, TableRule]:
    """A rule for the first table that rows of a business table refer to: its rows come where they are needed.

    They also travel with what they refer to themselves, if that belongs to a business: else one business's rows would
    pass for shared ones.
    """
    for name in sorted(schema.tables):
        rule = rules.get(name)
        if rule is None or rule.table_class is not TableClass.BUSINESS:
            continue
        for key in schema.tables[name].foreign_keys:
            needed = key.references
            if needed not in unknown or needed in rules or _device_pointing_at(schema, rules, needed):
                continue
            parents = parents_of(schema.tables[needed], required=False)
            return {
                needed: TableRule(
                    table=needed,
                    name=plan_name(needed),
                    table_class=TableClass.BUSINESS,
                    origin=Origin.INFERRED,
                    travels_with=tuple(
                        column
                        for column, parent in parents
                        if leads_to_business(parent, schema, rules, catalogue.businesses)
                    ),
                    why=f"{name} refers to it by {', '.join(key.columns)}",
                )
            }
    return {}


def _device_pointing_at(schema: Schema, rules: Mapping[str, TableRule], name: str) -> str | None:
    for other, table in sorted(schema.tables.items()):
        rule = rules.get(other)
        if rule and rule.table_class is TableClass.DEVICE and any(k.references == name for k in table.foreign_keys):
            return other
    return None


def _why_adrift(known: TableRule) -> str:
    columns = ", ".join(known.travels_with + known.owners)
    return f"it should travel with {columns}, which this database does not have or which refers to nothing"


def _why_not(schema: Schema, rules: Mapping[str, TableRule], name: str) -> str:
    device = _device_pointing_at(schema, rules, name)
    if device:
        return f"the device table {device} refers to it"
    if any(k.references in schema.tables for k in schema.tables[name].foreign_keys):
        return "nothing it requires belongs to a business"
    return "nothing connects it to a business"
