"""The manifest: the first thing in a bundle, and all that a receiver needs to know before the first row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from protocol import manifest_rules
from protocol.canonical import Value, pack, unpack
from protocol.errors import ManifestInvalid, TooLarge
from protocol.fields import Fields, as_text
from protocol.limits import BUNDLE_VERSION, DEFAULT_LIMITS, Limits

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
_MANIFEST_KEYS = (
    *("version", "bundle_id", "kind", "shop_id", "shop_name", "source_node", "source_device", "target_node"),
    *("business", "created", "created_by", "options", "schema_fingerprint", "server_version", "enums", "tables"),
    "warnings",
)
_TABLE_KEYS = ("table", "section", "columns", "key", "rows", "stub")
_E = TypeVar("_E", bound=StrEnum)


class Kind(StrEnum):
    """What a bundle is a backup of; the values are the plan's words.

    An undo bundle holds the rows that a restore changed, as they were before, for the device that restored.
    """

    FULL = "full"
    BUSINESS = "business-specific"
    FULL_DEVICE = "full-device"
    UNDO = "undo"


class Section(StrEnum):
    """The class of a table's rows (DESIGN section 3). Transient tables never travel."""

    BUSINESS = "business"
    DEVICE = "device"
    UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True)
class BusinessRef:
    """The business that a business-specific bundle holds, or that the restore behind an undo bundle was about."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ColumnEntry:
    """A column as it travels: ``type`` is PostgreSQL's own text (``format_type``), ``enum`` the enum type behind it."""

    name: str
    type: str
    enum: str | None = None


@dataclass(frozen=True, slots=True)
class TableEntry:
    """The rows of one table; frames refer to it by its index in ``Manifest.tables``.

    ``columns`` are in the order of the COPY text, ``key`` are the columns that tell rows apart (may be empty),
    ``rows`` is exact. Stubs (rows of other businesses, only inserted where missing) are an entry of their own.
    """

    table: str
    section: Section
    columns: tuple[ColumnEntry, ...]
    key: tuple[str, ...]
    rows: int
    stub: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How the backup was asked for: blocks compressed, demo businesses included."""

    compress: bool = True
    include_demo: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds and where it comes from (FORMAT.md, "Manifest").

    ``created`` is aware, in UTC, to the microsecond. ``target_node`` is set where the bundle was made for one device.
    ``enums`` maps an enum type's name to its labels, in order. The shop is None for a device that has not joined one.
    """

    version: int
    bundle_id: str
    kind: Kind
    shop_id: str | None
    shop_name: str | None
    source_node: str
    source_device: str
    target_node: str | None
    business: BusinessRef | None
    created: datetime
    created_by: str
    options: Options
    schema_fingerprint: str
    server_version: str
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: tuple[TableEntry, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def total_rows(self) -> int:
        """Rows in all entries, stubs included."""
        return sum(entry.rows for entry in self.tables)

    @property
    def table_count(self) -> int:
        """How many distinct tables have rows in this bundle."""
        return len({entry.table for entry in self.tables if entry.rows})

    def encode(self, limits: Limits = DEFAULT_LIMITS) -> bytes:
        """The one encoding of this manifest; raises ``ManifestInvalid`` or ``TooLarge`` if no reader would take it."""
        manifest_rules.check(self, limits)
        data = pack(_to_value(self))
        _check_size(data, limits)
        return data

    def digest(self) -> bytes:
        """SHA-256 of the encoding: what the seal signs."""
        return hashlib.sha256(pack(_to_value(self))).digest()

    @classmethod
    def decode(cls, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Manifest:
        """The manifest that ``data`` encodes; raises ``ManifestInvalid`` or ``TooLarge`` for anything else."""
        _check_size(data, limits)
        value = unpack(
            data,
            what="manifest",
            error=ManifestInvalid,
            values=limits.manifest_values,
            nesting=limits.nesting,
        )
        manifest = _from_value(value)
        manifest_rules.check(manifest, limits)
        return manifest


def _check_size(data: bytes, limits: Limits) -> None:
    if len(data) > limits.manifest_bytes:
        raise TooLarge(f"The manifest is {len(data)} bytes long; {limits.manifest_bytes} are allowed.")


def _to_value(manifest: Manifest) -> Value:
    business = manifest.business
    return {
        "version": manifest.version,
        "bundle_id": manifest.bundle_id,
        "kind": manifest.kind.value,
        "shop_id": manifest.shop_id,
        "shop_name": manifest.shop_name,
        "source_node": manifest.source_node,
        "source_device": manifest.source_device,
        "target_node": manifest.target_node,
        "business": None if business is None else {"id": business.id, "name": business.name},
        "created": (manifest.created - EPOCH) // _MICROSECOND,
        "created_by": manifest.created_by,
        "options": {"compress": manifest.options.compress, "include_demo": manifest.options.include_demo},
        "schema_fingerprint": manifest.schema_fingerprint,
        "server_version": manifest.server_version,
        "enums": {name: list(manifest.enums[name]) for name in sorted(manifest.enums)},
        "tables": [
            {
                "table": entry.table,
                "section": entry.section.value,
                "columns": [[column.name, column.type, column.enum] for column in entry.columns],
                "key": list(entry.key),
                "rows": entry.rows,
                "stub": entry.stub,
            }
            for entry in manifest.tables
        ],
        "warnings": list(manifest.warnings),
    }


def _from_value(value: Value) -> Manifest:
    # The version comes first, so that a manifest with more keys is refused as newer and not as damaged.
    if isinstance(value, dict) and value.get("version") != BUNDLE_VERSION:
        raise ManifestInvalid("The manifest does not have the version of its bundle.")
    fields = _fields(value, _MANIFEST_KEYS, "manifest")
    options = _fields(fields.value("options"), ("compress", "include_demo"), "options")
    return Manifest(
        version=fields.integer("version"),
        bundle_id=fields.text("bundle_id"),
        kind=_one_of(Kind, fields.text("kind"), "kind"),
        shop_id=fields.optional_text("shop_id"),
        shop_name=fields.optional_text("shop_name"),
        source_node=fields.text("source_node"),
        source_device=fields.text("source_device"),
        target_node=fields.optional_text("target_node"),
        business=_business(fields.value("business")),
        created=_time(fields.integer("created")),
        created_by=fields.text("created_by"),
        options=Options(options.boolean("compress"), options.boolean("include_demo")),
        schema_fingerprint=fields.text("schema_fingerprint"),
        server_version=fields.text("server_version"),
        enums=_enums(fields.value("enums")),
        tables=tuple(_table(entry) for entry in fields.array("tables")),
        warnings=fields.texts("warnings"),
    )


def _fields(value: Value, keys: tuple[str, ...], what: str) -> Fields:
    return Fields(value, keys, what=what, error=ManifestInvalid)


def _one_of(kind: type[_E], text: str, what: str) -> _E:
    try:
        return kind(text)
    except ValueError:
        raise ManifestInvalid(f"The manifest has an unknown {what}: {text[:60]!r}.") from None


def _time(microseconds: int) -> datetime:
    if microseconds > _LATEST:
        raise ManifestInvalid("The manifest was created after the year 9999.")
    return EPOCH + microseconds * _MICROSECOND


def _business(value: Value) -> BusinessRef | None:
    if value is None:
        return None
    fields = _fields(value, ("id", "name"), "business")
    return BusinessRef(fields.text("id"), fields.text("name"))


def _enums(value: Value) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ManifestInvalid("The enums of the manifest are not a map.")
    if list(value) != sorted(value):
        raise ManifestInvalid("The enums of the manifest are not sorted by name.")
    fields = _fields(value, tuple(value), "enums")
    return {name: fields.texts(name) for name in value}


def _table(value: Value) -> TableEntry:
    fields = _fields(value, _TABLE_KEYS, "table entry")
    return TableEntry(
        table=fields.text("table"),
        section=_one_of(Section, fields.text("section"), "section"),
        columns=tuple(_column(column) for column in fields.array("columns")),
        key=fields.texts("key"),
        rows=fields.integer("rows"),
        stub=fields.boolean("stub"),
    )


def _column(value: Value) -> ColumnEntry:
    if not isinstance(value, list) or len(value) != 3:
        raise ManifestInvalid("A column of the manifest is not an array of name, type and enum.")
    name, kind, enum = value
    return ColumnEntry(
        as_text(name, "name of a column", ManifestInvalid),
        as_text(kind, "type of a column", ManifestInvalid),
        None if enum is None else as_text(enum, "enum of a column", ManifestInvalid),
    )
