"""Which entries of a bundle go into which tables here, and which never do (DESIGN sections 3 and 4). Pure.

This is the third place at which foreign device state is refused: what *our own* classification calls device or
transient is not restored, whatever the bundle says it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine.drift import DriftProblem, missing_table
from agent.engine.plan import Skipped
from agent.engine.restore_errors import DeviceTableRefused
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import ForeignKey, Schema, Table
from protocol.manifest import Manifest, Section, TableEntry
from protocol.refusal import check_device_state, foreign_device_state


@dataclass(frozen=True, slots=True)
class Selected:
    """An entry that is restored: its index in the manifest and the live table."""

    index: int
    entry: TableEntry
    table: Table


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries with rows, sorted into those that are restored, left out, and without a table here."""

    entries: tuple[Selected, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[DriftProblem, ...]

    @property
    def tables(self) -> frozenset[str]:
        return frozenset(selected.table.name for selected in self.entries)


@dataclass(frozen=True, slots=True)
class DeviceReference:
    """A foreign key into a table whose rows do not travel. ``clears`` are its columns that become NULL where the row
    is not here; empty for a required reference, for which a placeholder is made."""

    table: str
    key: ForeignKey
    clears: tuple[str, ...]


def select_entries(manifest: Manifest, schema: Schema, classification: Classification, own_node: str) -> Selection:
    """Decide for every entry. Raises ``ForeignDeviceState`` or ``DeviceTableRefused``."""
    check_device_state(manifest, own_node)
    own = manifest.source_node == own_node
    entries: list[Selected] = []
    skipped: list[Skipped] = []
    missing: list[DriftProblem] = []
    for index, entry in enumerate(manifest.tables):
        table = schema.tables.get(entry.table)
        rule = classification.rules.get(entry.table)
        found = rule.table_class if rule else None
        _refuse_device(manifest, entry, found, own)
        why = _reason_to_skip(entry, found, own)
        if not entry.rows:
            continue
        if why is not None:
            skipped.append(Skipped(entry.table, entry.rows, why))
        elif table is None:
            missing.append(missing_table(entry))
        else:
            entries.append(Selected(index, entry, table))
    return Selection(tuple(entries), tuple(skipped), tuple(missing))


def _refuse_device(manifest: Manifest, entry: TableEntry, found: TableClass | None, own: bool) -> None:
    if entry.section is Section.DEVICE and not own:
        raise foreign_device_state(manifest)
    if entry.section is Section.BUSINESS and found in {TableClass.DEVICE, TableClass.TRANSIENT}:
        raise DeviceTableRefused(
            f"The bundle has the table {entry.table} in its {entry.section} section, but here it holds {found} state "
            "that never leaves a laptop."
        )


def _reason_to_skip(entry: TableEntry, found: TableClass | None, own: bool) -> str | None:
    if found is TableClass.TRANSIENT:
        return "the table is transient here"
    if own:
        return None
    if found is TableClass.UNCLASSIFIED:
        return "the table is not classified here (see `backroom tables`)"
    if entry.section is Section.UNCLASSIFIED and found is not TableClass.BUSINESS:
        return "the table is not classified as business"
    return None


def device_references(
    table: Table, classification: Classification, restored: frozenset[str]
) -> tuple[DeviceReference, ...]:
    """The foreign keys of a restored table into tables that hold this laptop's own state.

    ``restored`` are the tables that this restore fills: a full-device backup on its own device brings device rows too.
    """
    found = []
    for key in table.foreign_keys:
        rule = classification.rules.get(key.references)
        if key.references in restored or rule is None or rule.table_class is TableClass.BUSINESS:
            continue
        optional = [name for name in key.columns if not _required(table, name)]
        found.append(DeviceReference(table.name, key, tuple(optional)))
    return tuple(found)


def _required(table: Table, name: str) -> bool:
    column = table.column(name)
    return column is not None and column.not_null


def row_identity(table: Table, brought: frozenset[str]) -> tuple[str, ...]:
    """The columns that tell rows apart, among those that the bundle brings; () where whole rows must be compared."""
    if table.identity and set(table.identity) <= brought:
        return table.identity
    required = {column.name for column in table.columns if column.not_null}
    for key in sorted(table.keys, key=lambda key: (len(key.columns), key.name)):
        if key.plain and set(key.columns) <= required & brought:
            return key.columns
    return ()
