"""What must hold for every manifest, written or read (FORMAT.md, "Manifest")."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from protocol.errors import DeviceSectionRefused, ManifestInvalid, UnclassifiedSectionRefused
from protocol.fields import check_id, check_range, check_text, check_unique
from protocol.limits import BUNDLE_VERSION, Limits

if TYPE_CHECKING:
    from protocol.manifest import Manifest, TableEntry


def check(manifest: Manifest, limits: Limits) -> None:
    """Raise ``ManifestInvalid`` (or one of its subclasses) for the first rule that ``manifest`` breaks."""
    if manifest.version != BUNDLE_VERSION:
        raise ManifestInvalid(f"The manifest has version {manifest.version}; this is version {BUNDLE_VERSION}.")
    _check_origin(manifest, limits)
    _check_business(manifest, limits)
    _check_enums(manifest, limits)
    check_range(len(manifest.warnings), "number of warnings", limits.warnings, ManifestInvalid)
    for warning in manifest.warnings:
        check_text(warning, "warning of the manifest", limits.text_bytes, ManifestInvalid)
    check_range(len(manifest.tables), "number of table entries", limits.tables, ManifestInvalid)
    check_unique([(entry.table, entry.stub) for entry in manifest.tables], "list of table entries", ManifestInvalid)
    for entry in manifest.tables:
        _check_section(manifest, entry)
        _check_entry(manifest, entry, limits)
    check_range(manifest.total_rows, "number of rows of the manifest", limits.rows, ManifestInvalid)


def _check_origin(manifest: Manifest, limits: Limits) -> None:
    ids = {
        "bundle_id": manifest.bundle_id,
        "shop_id": manifest.shop_id,
        "source_node": manifest.source_node,
        "target_node": manifest.target_node,
        "schema_fingerprint": manifest.schema_fingerprint,
    }
    for name, value in ids.items():
        if value is not None:
            check_id(value, f"{name} of the manifest", limits.id_bytes, ManifestInvalid)
    texts = {
        "shop_name": manifest.shop_name,
        "source_device": manifest.source_device,
        "created_by": manifest.created_by,
        "server_version": manifest.server_version,
    }
    for name, text in texts.items():
        if text is not None:
            check_text(text, f"{name} of the manifest", limits.text_bytes, ManifestInvalid)
    if (manifest.shop_id is None) != (manifest.shop_name is None):
        raise ManifestInvalid("The manifest names a shop by its ID or by its name alone.")
    if manifest.created.utcoffset() != timedelta(0):
        raise ManifestInvalid("The time of creation in the manifest is not in UTC.")
    if manifest.created.year < 1970:
        raise ManifestInvalid("The time of creation in the manifest is before 1970.")


def _check_business(manifest: Manifest, limits: Limits) -> None:
    business = manifest.business
    if manifest.kind != "undo" and (business is not None) != (manifest.kind == "business-specific"):
        raise ManifestInvalid("A bundle names a business if, and only if, it is business-specific.")
    if business is not None:
        check_text(business.id, "business ID of the manifest", limits.text_bytes, ManifestInvalid)
        check_text(business.name, "business name of the manifest", limits.text_bytes, ManifestInvalid)


def _check_enums(manifest: Manifest, limits: Limits) -> None:
    check_range(len(manifest.enums), "number of enums", limits.enums, ManifestInvalid)
    for name, labels in manifest.enums.items():
        check_text(name, "name of an enum", limits.type_bytes, ManifestInvalid)
        check_range(len(labels), f"number of labels of the enum {name}", limits.labels, ManifestInvalid)
        check_unique(labels, f"enum {name}", ManifestInvalid)
        for label in labels:
            check_text(label, f"label of the enum {name}", limits.identifier_bytes, ManifestInvalid, least=0)


def _check_section(manifest: Manifest, entry: TableEntry) -> None:
    if entry.section == "device" and manifest.kind not in ("full-device", "undo"):
        raise DeviceSectionRefused(
            f"The table {entry.table} is in a device section, but the bundle is of kind {manifest.kind}."
        )
    if entry.section == "unclassified" and manifest.kind == "business-specific":
        raise UnclassifiedSectionRefused(f"The unclassified table {entry.table} is in the bundle of one business.")
    if entry.stub and entry.section != "business":
        raise ManifestInvalid(f"The table {entry.table} has stub rows in a section that is not business.")


def _check_entry(manifest: Manifest, entry: TableEntry, limits: Limits) -> None:
    check_text(entry.table, "name of a table", limits.identifier_bytes, ManifestInvalid)
    check_range(entry.rows, f"row count of the table {entry.table}", limits.rows, ManifestInvalid)
    check_range(len(entry.columns), f"number of columns of {entry.table}", limits.columns, ManifestInvalid)
    names = [column.name for column in entry.columns]
    check_unique(names, f"list of columns of {entry.table}", ManifestInvalid)
    check_unique(entry.key, f"key of {entry.table}", ManifestInvalid)
    if not set(entry.key) <= set(names):
        raise ManifestInvalid(f"The key of {entry.table} names a column that does not travel.")
    for column in entry.columns:
        check_text(column.name, f"name of a column of {entry.table}", limits.identifier_bytes, ManifestInvalid)
        check_text(column.type, f"type of {entry.table}.{column.name}", limits.type_bytes, ManifestInvalid)
        if column.enum is not None and column.enum not in manifest.enums:
            raise ManifestInvalid(f"The enum of {entry.table}.{column.name} is not among the enums of the manifest.")
