"""From what a platform backup file holds to the manifest of its bundle; refuses what must not or cannot come along."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from agent.engine.backup import Origin
from agent.engine.import_errors import NoBusinessInFile, UnknownInFile, UnprovenDeviceState, ValuesMisfit
from agent.engine.import_survey import Survey, TableFound, holds_json
from agent.engine.restore_errors import DeviceTableRefused
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from protocol.errors import ForeignDeviceState
from protocol.limits import BUNDLE_VERSION
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.platform_json.errors import NotAPlatformFile
from protocol.platform_json.metadata import Metadata
from protocol.platform_json.provenance import Provenance
from protocol.platform_json.reader import BUSINESS, DEVICE

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER = timedelta(days=1)
_SHOWN = 20
_NAMESPACE = uuid.UUID("6f5e8a53-7f0b-4c0d-9d0f-3a1b0c9c2e71")
_LONGEST_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``skip_unknown`` leaves out tables and columns that this database does not have, ``skip_device`` device data;
    each is named in the bundle's warnings."""

    skip_unknown: bool = False
    skip_device: bool = False
    compress: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """Where rows of one table of the file go: entry ``first`` of the manifest, and stubs among them to another.

    ``stubs`` are the numbers of rows (from 0) that belong to other businesses; ``second`` is the entry of the rows of
    the other sort than the first row, if there are both.
    """

    columns: tuple[str, ...]
    first: int
    second: int | None = None
    stubs: frozenset[int] | range = frozenset()


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The manifest, and a route by key of businessData; tables without one are left out."""

    manifest: Manifest
    routes: Mapping[str, Route]


def plan_import(
    survey: Survey,
    schema: Schema,
    classification: Classification,
    origin: Origin,
    server_version: str,
    now: datetime,
    options: ImportOptions,
    checksum: str,
) -> ImportPlan:
    """Decide. ``checksum`` is that of businessData, as computed: the same file, imported again into the same schema,
    gets the same bundle ID. Raises ``ForeignDeviceState``, ``DeviceTableRefused``, errors of ``import_errors`` and of
    the file."""
    metadata = survey.metadata
    if metadata is None:
        raise NotAPlatformFile("The file has no metadata: it is no backup of the platform.")
    provenance = Provenance.of(metadata, nulls_left_out=not survey.wrote_null)
    warnings = [*_device_data(survey, metadata, origin.node_id, options), *_unknown(survey, options)]
    if survey.misfits:
        raise ValuesMisfit(_listed("The file has values that do not fit into this database:", survey.misfit_lines()))
    created, doubt = _created(metadata, now)
    kind = Kind.FULL if metadata.kind is Kind.FULL_DEVICE else metadata.kind
    business = _business(survey, metadata, classification) if kind is Kind.BUSINESS else None
    entries, routes, left_out = _entries(survey, classification, metadata, kind, business, origin.node_id)
    enums = {column.enum for entry in entries for column in entry.columns if column.enum}
    maker = " ".join(filter(None, (metadata.created_by, "on", metadata.source_device or metadata.source_node)))
    manifest = Manifest(
        version=BUNDLE_VERSION,
        bundle_id=_bundle_id(checksum, survey, metadata, schema, origin, options),
        kind=kind,
        shop_id=origin.shop_id,
        shop_name=origin.shop_name,
        source_node=origin.node_id,
        source_device=origin.device,
        target_node=None,
        business=business,
        created=created,
        created_by=_text(f"{origin.created_by}, from a platform backup by {maker}"),
        options=Options(compress=options.compress, include_demo=metadata.include_demo),
        # Not the live schema's: nobody knows the one that the file was made from, so a restore checks everything.
        schema_fingerprint="imported-" + schema.fingerprint()[:40],
        server_version=server_version,
        enums={name: schema.enums[name] for name in sorted(enums)},
        tables=tuple(entries),
        warnings=(provenance.sentence(), *map(_text, [*warnings, *doubt, *left_out])),
    )
    return ImportPlan(manifest, routes)


def _device_data(survey: Survey, metadata: Metadata, own_node: str, options: ImportOptions) -> list[str]:
    device_rows = sum(found.rows for found in survey.tables if found.section == DEVICE)
    held = {TableClass.DEVICE, TableClass.TRANSIENT}
    misplaced = [each for each in survey.tables if each.section == BUSINESS and each.table_class in held and each.rows]
    if not device_rows and not misplaced and metadata.kind is not Kind.FULL_DEVICE:
        return []
    if options.skip_device:
        rows = device_rows + sum(found.rows for found in misplaced)
        return [f"The file's device data ({rows} rows) was left out: it never leaves its own device."]
    if misplaced and not device_rows and metadata.kind is not Kind.FULL_DEVICE:
        names = ", ".join(each.table.name for each in misplaced if each.table)
        raise DeviceTableRefused(
            f"The file has {names} among its business data, but here that is device state, which never leaves a laptop."
        )
    if metadata.source_node != own_node:
        raise ForeignDeviceState(
            "This is a full device backup from a different device "
            f"({metadata.source_device or metadata.source_node}). Device-specific data cannot be restored to a "
            "different machine. Use a business or full backup instead.",
            hint="Ask that device for a business or full backup, or import this file without its device data: add "
            "--skip-device-data.",
        )
    raise UnprovenDeviceState(
        "The file has device data and says that it is this laptop's own, but such a file carries no signature: nothing "
        "proves it."
    )


def _unknown(survey: Survey, options: ImportOptions) -> list[str]:
    business = [found for found in survey.tables if found.section == BUSINESS]
    tables = [f"the table {each.key[:80]!r} ({each.rows} rows)" for each in business if not each.table and each.rows]
    columns = [
        f"the column {column[:80]!r} of {found.table.name} ({values} values)"
        for found in business
        if found.table
        for column, values in found.unknown.items()
    ]
    if not tables and not columns:
        return []
    if not options.skip_unknown:
        raise UnknownInFile(_listed("The file has data for which this database has no place:", [*tables, *columns]))
    return [f"Left out, as this database does not have it: {what}." for what in [*tables, *columns]][:1_000]


def _bundle_id(
    checksum: str, survey: Survey, metadata: Metadata, schema: Schema, origin: Origin, options: ImportOptions
) -> str:
    facts = (checksum, origin.node_id, schema.fingerprint(), metadata, survey.wrote_null, options)
    return str(uuid.uuid5(_NAMESPACE, repr(facts)))


def _created(metadata: Metadata, now: datetime) -> tuple[datetime, list[str]]:
    stated = metadata.timestamp
    if stated is not None and _EARLIEST <= stated <= now + _CLOCKS_DIFFER:
        return stated, []
    shown = stated.isoformat() if stated else "at no time that can be read"
    return now, [f"The file says that it was made {shown}, which cannot be; the time of the import counts."]


def _business(survey: Survey, metadata: Metadata, classification: Classification) -> BusinessRef:
    number = metadata.business_id
    if number is None:
        if len(survey.names) != 1:
            raise NoBusinessInFile("The file is the backup of one business, but does not say of which.")
        number = next(iter(survey.names))
    holds = any(found.table and found.table.name == classification.businesses for found in survey.tables)
    if not holds or number not in survey.names:
        raise NoBusinessInFile(f"The file is a backup of the business {number[:80]!r}, but that is not in it.")
    return BusinessRef(_text(number), _text(survey.names[number]) or _text(number))


def _entries(
    survey: Survey,
    classification: Classification,
    metadata: Metadata,
    kind: Kind,
    business: BusinessRef | None,
    own_node: str,
) -> tuple[list[TableEntry], dict[str, Route], list[str]]:
    entries: list[TableEntry] = []
    routes: dict[str, Route] = {}
    left_out: list[str] = []
    for found in survey.tables:
        if found.section == DEVICE or found.table is None:
            continue
        section = Section.BUSINESS
        if found.table_class is TableClass.UNCLASSIFIED:
            # Only this laptop's own rows may come back to it, and a business bundle has none.
            section = Section.UNCLASSIFIED
            if kind is Kind.BUSINESS or metadata.source_node != own_node:
                left_out.append(f"Table {found.table.name} is not classified: its {found.rows} rows were left out.")
                continue
        elif found.table_class is not TableClass.BUSINESS:
            continue
        columns = _columns(found, nulls_left_out=not survey.wrote_null)
        names = tuple(column.name for column in columns)
        identity = found.table.identity
        entry = TableEntry(found.table.name, section, columns, identity if set(identity) <= set(names) else (), 0)
        stubs = _stubs(found, metadata, classification, business) if section is Section.BUSINESS else range(0)
        stub_first = 0 in stubs
        sizes = [len(stubs), found.rows - len(stubs)] if stub_first else [found.rows - len(stubs), len(stubs)]
        routes[found.key] = Route(names, len(entries), len(entries) + 1 if sizes[1] else None, stubs)
        entries.append(replace(entry, rows=sizes[0], stub=stub_first))
        if sizes[1]:
            entries.append(replace(entry, rows=sizes[1], stub=not stub_first))
    return entries, routes, left_out


def _columns(found: TableFound, *, nulls_left_out: bool) -> tuple[ColumnEntry, ...]:
    """The file's columns in its order; then those that it leaves out where they are NULL, as none has a value."""
    assert found.table is not None
    live = {column.name: column for column in found.table.columns}
    if not found.rows:
        chosen = list(found.table.stored_columns)
    else:
        chosen = [live[name] for name in found.order() if name in live]
        chosen += [
            column
            for column in found.table.stored_columns
            if column.name not in found.columns
            and not column.not_null
            and column.default is None
            and (nulls_left_out or holds_json(column))
        ]
    return tuple(ColumnEntry(column.name, column.type, column.enum) for column in chosen)


def _stubs(
    found: TableFound, metadata: Metadata, classification: Classification, business: BusinessRef | None
) -> frozenset[int] | range:
    """Which rows are of other businesses: as the file says, and in the table of businesses by their ids."""
    assert found.table is not None
    if business is not None and found.table.name == classification.businesses:
        return frozenset(number for number, each in enumerate(found.ids) if each != business.id)
    first, last = metadata.stubs.get(found.key, (0, 0))
    if not first <= last <= found.rows or (first and last != found.rows):
        raise NotAPlatformFile(f"The file does not say which rows of {found.key[:60]!r} are of other businesses.")
    return range(first, last)


def _listed(start: str, lines: list[str]) -> str:
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"{start} {'; '.join(lines[:_SHOWN])}{more}."


def _text(text: str) -> str:
    """At most 1,000 characters that a manifest can hold."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()[:_LONGEST_TEXT]
