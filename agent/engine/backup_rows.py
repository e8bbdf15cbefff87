"""Which rows a backup takes, and the pieces in which it reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.database.businesses import Business, find_business, list_businesses
from agent.database.gates import Finding, closure, leak
from agent.database.names import column_list
from agent.database.ownership import Ownership
from agent.database.scope import How, Scope, Source
from agent.database.scope_walk import fill_business_scope, fill_full_scope, find_complete
from agent.database.snapshot import Snapshot
from agent.engine.errors import GateFailed
from agent.engine.reading import Piece
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Table
from agent.tables.scope import scope_rules
from protocol.manifest import ColumnEntry, Kind, Section, TableEntry

_ORDERED_LINES = 10_000
_SECTIONS = {
    TableClass.BUSINESS: Section.BUSINESS,
    TableClass.DEVICE: Section.DEVICE,
    TableClass.UNCLASSIFIED: Section.UNCLASSIFIED,
}
_ORDER = (Section.BUSINESS, Section.UNCLASSIFIED, Section.DEVICE)


def tables_to_read(kind: Kind, classification: Classification) -> tuple[str, ...]:
    """The tables that a backup of this kind reads. Transient tables are in none."""
    match kind:
        case Kind.BUSINESS:
            return classification.of_class(TableClass.BUSINESS)
        case Kind.FULL:
            return classification.of_class(TableClass.BUSINESS, TableClass.UNCLASSIFIED)
        case Kind.FULL_DEVICE:
            return classification.of_class(TableClass.BUSINESS, TableClass.DEVICE, TableClass.UNCLASSIFIED)
        case Kind.UNDO:
            raise ValueError("an undo bundle is made by a restore, not by a backup")


async def choose_rows(snapshot: Snapshot, named: str) -> tuple[Business, Scope]:
    """The rows of one business (id, name or slug), all that comes along included."""
    business, scope = await begin_scope(snapshot, Kind.BUSINESS, named)
    assert business is not None
    await fill_scope(snapshot, scope, Kind.BUSINESS)
    return business, scope


async def begin_scope(
    snapshot: Snapshot, kind: Kind, named: str | None = None, *, include_demo: bool = False
) -> tuple[Business | None, Scope]:
    """The scope with the rows that are in by themselves, before it is known what these need; the business, which is
    ``named`` for its own kind alone, is found in the same snapshot.
    """
    schema, classification = snapshot.schema, snapshot.classification
    businesses = await list_businesses(snapshot.connection, schema, classification)
    rules = scope_rules(schema, classification)
    if kind is Kind.BUSINESS:
        assert named is not None
        business = find_business(businesses, named)
        ownership = Ownership(schema, classification, (business.id,))
        return business, Scope(schema, classification, rules, ownership, dict.fromkeys(rules.whole, How.SHARED))
    left_out = () if include_demo else tuple(business.id for business in businesses if business.is_demo)
    complete = dict.fromkeys(rules.tables, How.OWN) if not left_out else {}
    ownership = Ownership(schema, classification, left_out, all_but=True)
    scope = Scope(schema, classification, rules, ownership, complete)
    if left_out:
        await find_complete(snapshot.connection, scope)
    return None, scope


async def fill_scope(snapshot: Snapshot, scope: Scope, kind: Kind) -> None:
    """Add to a scope that was begun what comes along."""
    if kind is Kind.BUSINESS:
        await fill_business_scope(snapshot.connection, scope)
    else:
        await fill_full_scope(snapshot.connection, scope)


async def check_gates(snapshot: Snapshot, scope: Scope, kind: Kind) -> None:
    """Raises :class:`GateFailed` where the scope is not closed or holds rows of businesses that were not chosen."""
    findings: list[Finding] = await closure(snapshot.connection, scope, unclassified=kind is not Kind.BUSINESS)
    if any(scope.scoped(table) for table in scope.rules.tables):
        findings += await leak(snapshot.connection, scope)
    if findings:
        listed = "; ".join(str(finding) for finding in findings[:10])
        more = f"; and {len(findings) - 10} more" if len(findings) > 10 else ""
        raise GateFailed(f"The backup was stopped before anything was written: {listed}{more}.")


def travelling_columns(table: Table, classification: Classification) -> tuple[ColumnEntry, ...]:
    """The columns in the order of the COPY text: key first, then the timestamp, then the rest as in the table."""
    key = table.identity
    timestamp = classification.timestamp(table)
    first = [*key, *([timestamp] if timestamp and timestamp not in key else [])]
    stored = {column.name: column for column in table.stored_columns}
    names = [*first, *(name for name in stored if name not in first)]
    return tuple(ColumnEntry(name, stored[name].type, stored[name].enum) for name in names if name in stored)


async def entries_of(snapshot: Snapshot, scope: Scope, names: Sequence[str]) -> tuple[TableEntry, ...]:
    """What a manifest says of these tables: exact rows, in the order of the file."""
    classification = snapshot.classification
    counted = await scope.count(snapshot.connection, names)
    entries: list[TableEntry] = []
    for name in names:
        table = snapshot.schema.tables[name]
        entry = TableEntry(
            table=name,
            section=_SECTIONS[classification.rule(name).table_class],
            columns=travelling_columns(table, classification),
            key=table.identity,
            rows=counted[name].rows,
        )
        entries.append(entry)
        if counted[name].stubs:
            entries.append(replace(entry, rows=counted[name].stubs, stub=True))
    return tuple(sorted(entries, key=lambda entry: _ORDER.index(entry.section)))


def pieces_of(snapshot: Snapshot, scope: Scope, entry: TableEntry, begun: Mapping[str, list[Piece]]) -> list[Piece]:
    """All rows of an entry."""
    added = scope.added_rows(entry.table, "t", stubs=entry.stub)
    pieces = [] if entry.stub else begun[entry.table]
    if added is None:
        return pieces
    # Few come in an order that does not depend on how they were found: as they lie in the table.
    order = " ORDER BY t.tableoid, t.ctid" if scope.lines[entry.table] <= _ORDERED_LINES else ""
    return [*pieces, Piece(entry.table, select_rows(snapshot, entry.table, added) + order, shared=False)]


def select_rows(snapshot: Snapshot, name: str, source: Source, *conditions: str) -> str:
    """The query of rows as they travel."""
    columns = travelling_columns(snapshot.schema.tables[name], snapshot.classification)
    return f"SELECT {column_list((column.name for column in columns), 't')} FROM {source.where(*conditions)}"
