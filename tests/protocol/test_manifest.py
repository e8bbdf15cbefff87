from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import Value, pack, unpack
from protocol.errors import DeviceSectionRefused, ManifestInvalid, ProtocolError, TooLarge
from protocol.limits import Limits
from protocol.manifest import ColumnEntry, Kind, Manifest, Section
from tests.protocol.bundles import manifests
from tests.protocol.test_canonical import VALUES
from tests.vectors.drafts import NODES, ORDERS, USERS, full, manifest


@given(manifests())
def test_round_trip(value: Manifest) -> None:
    assert Manifest.decode(value.encode()) == value
    assert Manifest.decode(value.encode()).digest() == value.digest()


@given(manifests(), st.data())
def test_changed_byte_is_another_manifest_or_none(value: Manifest, data: st.DataObject) -> None:
    encoded = bytearray(value.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = Manifest.decode(bytes(encoded))
    except ProtocolError:
        return
    assert other != value
    assert other.encode() == encoded


@given(manifests(), st.data())
def test_changed_value_is_another_manifest_or_none(value: Manifest, data: st.DataObject) -> None:
    tree = unpack(value.encode(), what="manifest", error=ManifestInvalid, values=1_000, nesting=6)
    node: Value = tree
    while True:
        if isinstance(node, dict) and node:
            places: list[Any] = list(node)
        elif isinstance(node, list) and node:
            places = list(range(len(node)))
        else:
            break
        parent: Any = node
        place = data.draw(st.sampled_from(places))
        node = parent[place]
        if data.draw(st.booleans()):
            break
    parent[place] = data.draw(VALUES)
    try:
        other = Manifest.decode(pack(tree))
    except ManifestInvalid:
        return
    assert other.encode() == pack(tree)


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.decode(data)


def test_times_keep_their_microsecond() -> None:
    for created in (datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert Manifest.decode(manifest(created=created).encode()).created == created


def test_counts() -> None:
    stubs = replace(USERS, rows=3, stub=True)
    value = manifest(USERS, stubs, ORDERS, replace(ORDERS, table="empty", rows=0))
    assert value.total_rows == 2 + 3 + 4
    assert value.table_count == 2


@pytest.mark.parametrize(
    "value",
    [
        manifest(version=2),
        manifest(created=datetime(2026, 1, 1)),  # noqa: DTZ001
        manifest(created=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
        manifest(created=datetime(1969, 12, 31, tzinfo=UTC)),
        manifest(created_by=""),
        manifest(created_by="x" * 5_000),
        manifest(created_by="\ud800"),
        manifest(source_device="a\0b"),
        manifest(bundle_id="a/b"),
        manifest(bundle_id="-a"),
        manifest(bundle_id="x" * 129),
        manifest(bundle_id="ä"),
        manifest(target_node=""),
        manifest(shop_id=None),
        manifest(business=None),
        full(kind=Kind.BUSINESS),
        manifest(enums={"E": ("a", "a")}),
        manifest(enums={"": ()}),
        manifest(enums={"E": ("x" * 64,)}),
        manifest(warnings=("",)),
        manifest(ORDERS, ORDERS),
        manifest(replace(ORDERS, rows=-1)),
        manifest(replace(ORDERS, rows=1 << 48)),
        manifest(replace(ORDERS, rows=1 << 47), replace(USERS, rows=1 << 47)),
        manifest(replace(ORDERS, key=("id", "id"))),
        manifest(replace(ORDERS, columns=(ColumnEntry("", "text"),), key=())),
        manifest(replace(ORDERS, columns=(ColumnEntry("id", ""),))),
        manifest(replace(ORDERS, table="ö" * 32)),
        full(replace(NODES, stub=True), kind=Kind.FULL_DEVICE),
        full(replace(USERS, section=Section.UNCLASSIFIED, stub=True)),
    ],
)
def test_invalid_manifest_is_not_written(value: Manifest) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        value.encode()
    assert caught.type is ManifestInvalid


def test_writer_refuses_a_device_section_outside_a_full_device_bundle() -> None:
    for value in (manifest(NODES), full(NODES)):
        with pytest.raises(DeviceSectionRefused, match="sync_nodes"):
            value.encode()
    assert full(NODES, kind=Kind.FULL_DEVICE).encode()


def test_enum_without_labels_and_table_without_columns_are_fine() -> None:
    value = manifest(replace(ORDERS, columns=(), key=()), enums={"E": (), "F": ("",)})
    assert Manifest.decode(value.encode()) == value


def test_sizes_are_bounded() -> None:
    limits = Limits(manifest_bytes=500, tables=1, columns=3)
    with pytest.raises(TooLarge, match="500 are allowed"):
        manifest(ORDERS).encode(replace(limits, columns=9))
    with pytest.raises(TooLarge):
        Manifest.decode(bytes(501), limits)
    with pytest.raises(ManifestInvalid, match="number of columns"):
        manifest(ORDERS).encode(limits)
    with pytest.raises(ManifestInvalid, match="number of table entries"):
        manifest(USERS, NODES).encode(limits)


def test_a_schema_of_two_thousand_tables_fits() -> None:
    columns = tuple(ColumnEntry(f"someColumnOfTheTable{n}", "timestamp(3) without time zone") for n in range(25))
    entry = replace(ORDERS, columns=columns, key=())
    value = manifest(*(replace(entry, table=f"a_table_with_a_longer_name_{n}") for n in range(2_000)))
    assert Manifest.decode(value.encode()) == value
