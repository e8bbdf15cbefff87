"""Manifests that are wrong, in otherwise good bundles."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from protocol.canonical import pack, unpack
from protocol.errors import ManifestInvalid
from tests.vectors.drafts import (
    CREATED,
    Draft,
    Vector,
    orders,
)


def wrong_values() -> Iterator[Vector]:
    """Manifests in msgpack that no writer makes."""
    payload = orders().manifest

    def swap(name: str, comment: str, old: bytes, new: bytes) -> Vector:
        assert payload.count(old) == 1, name
        return Vector(name, comment, Draft(payload.replace(old, new), orders().frames).whole(), "manifest-invalid")

    version = pack("version") + pack(1)
    rows = pack("rows") + pack(4)
    yield swap("value-long-number", "The version in 8 bits instead of 7.", version, pack("version") + b"\xcc\x01")
    yield swap("value-negative", "A negative row count.", rows, pack("rows") + b"\xff")
    yield swap("value-float", "A row count that is a float.", rows, pack("rows") + msgpack.packb(4.0))
    yield swap("value-true", "A row count that is true.", rows, pack("rows") + b"\xc3")
    stamp = msgpack.packb(msgpack.Timestamp.from_datetime(CREATED))
    yield swap(
        "value-timestamp",
        "A msgpack timestamp.",
        pack("created") + b"\xcf" + struct.pack(">Q", _created()),
        pack("created") + stamp,
    )
    yield swap(
        "value-binary-text",
        "A name as binary.",
        pack("created_by") + pack("vectors"),
        pack("created_by") + pack(b"vectors"),
    )
    yield swap("value-not-utf8", "Text that is not UTF-8.", pack("vectors"), b"\xa7vector\xff")
    yield swap("value-long-text", "Text with a longer length than it needs.", pack("vectors"), b"\xd9\x07vectors")
    yield swap("value-key-twice", "A key twice.", version, version + version)
    yield swap("value-key-number", "A map key that is a number.", pack("version"), b"\x01")
    yield swap(
        "value-too-deep", "Arrays within arrays.", pack("warnings") + b"\x90", pack("warnings") + b"\x91" * 40 + b"\x90"
    )
    extra = Draft(payload + b"\xc0", orders().frames).whole()
    yield Vector("value-after-end", "A value after the manifest's end.", extra, "manifest-invalid")
    cut = Draft(payload[:-1], orders().frames).whole()
    yield Vector("value-cut", "The manifest ends inside a value.", cut, "manifest-invalid")
    huge = b"\xdf\xff\xff\xff\xff"
    yield Vector("value-huge-map", "A map that says it has 4 billion keys.", Draft(huge).whole(), "manifest-invalid")


def _created() -> int:
    return round(CREATED.timestamp()) * 1_000_000 + CREATED.microsecond


def wrong_manifests() -> Iterator[Vector]:
    """Manifests in proper msgpack that break a rule."""

    def change(
        name: str, comment: str, how: Callable[[dict[str, Any]], object], error: str = "manifest-invalid"
    ) -> Vector:
        value: Any = unpack(orders().manifest, what="manifest", error=ManifestInvalid, values=1_000, nesting=6)
        how(value)
        return Vector(name, comment, Draft(pack(value), orders().frames).whole(), error)

    def table(**changes: object) -> Callable[[dict[str, Any]], object]:
        return lambda value: value["tables"][0].update(changes)

    def top(**changes: object) -> Callable[[dict[str, Any]], object]:
        return lambda value: value.update(changes)

    yield change("manifest-unknown-key", "A key that version 1 does not have.", top(colour="red"))
    yield change("manifest-lacks-key", "No schema fingerprint.", lambda value: value.pop("schema_fingerprint"))
    yield change("manifest-key-order", "Keys in another order.", lambda value: value.update(kind=value.pop("kind")))
    yield change("manifest-version-2", "Another version than the header's.", top(version=2))
    yield change("manifest-kind", "A kind that does not exist.", top(kind="half"))
    yield change("manifest-section", "Transient tables never travel.", table(section="transient"))
    device = table(section="device")
    yield change("manifest-device-section", "A device section in a business bundle.", device, "device-section")
    yield change(
        "manifest-device-section-full",
        "A device section in a full bundle.",
        lambda value: (device(value), value.update(kind="full", business=None)),
        "device-section",
    )
    unclassified = table(section="unclassified")
    yield change(
        "manifest-unclassified", "An unclassified table in a business bundle.", unclassified, "unclassified-section"
    )
    yield change(
        "manifest-device-stub",
        "Stub rows of a device table.",
        lambda value: (value.update(kind="full-device", business=None), table(section="device", stub=True)(value)),
    )
    yield change("manifest-table-twice", "A table twice.", lambda value: value["tables"].append(value["tables"][0]))
    yield change("manifest-column-twice", "A column twice.", table(columns=[["id", "text", None]] * 2))
    yield change("manifest-key-column", "A key column that does not travel.", table(key=["createdAt"]))
    yield change("manifest-enum-missing", "A column of an enum without labels.", top(enums={}))
    yield change("manifest-enum-order", "Enums not sorted.", top(enums={"OrderStatus": [], "A": []}))
    yield change("manifest-long-name", "A table name of 64 bytes.", table(table="t" * 64))
    yield change("manifest-no-name", "A table without a name.", table(table=""))
    yield change("manifest-nul", "A NUL in a table name.", table(table="a\0b"))
    yield change("manifest-too-many-rows", "More rows than may be announced.", table(rows=1 << 48))
    yield change("manifest-no-business", "A business bundle that names no business.", top(business=None))
    yield change("manifest-full-business", "A full bundle that names a business.", top(kind="full"))
    yield change("manifest-half-shop", "A shop's ID without its name.", top(shop_name=None))
    yield change("manifest-node-path", "A source node with a path in it.", top(source_node="../node"))
    yield change("manifest-year-10000", "Created after the year 9999.", top(created=253_402_300_800_000_000))
