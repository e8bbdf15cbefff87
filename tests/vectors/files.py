"""Good bundles, and files whose records are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from protocol.canonical import pack
from protocol.frames import as_frame, cut_block
from protocol.limits import DEFAULT_LIMITS
from protocol.manifest import Kind, Section
from protocol.records import Tag, prefix, record
from tests.vectors.drafts import (
    NODE_ROWS,
    NODES,
    ORDER_BLOCKS,
    ORDERS,
    OTHER,
    TWO_BLOCKS,
    USER_ROWS,
    USERS,
    Blocks,
    Vector,
    draft,
    full,
    manifest,
    orders,
)


def good() -> Iterator[Vector]:
    yield Vector("good-no-tables", "No table at all.", draft(manifest(), []).whole())
    empty = manifest(replace(ORDERS, rows=0), replace(USERS, rows=0))
    yield Vector("good-no-rows", "Two tables without rows, so no frame.", draft(empty, []).whole())
    many = tuple(b"order-%04d\tPENDING\t1.00\tthe same note on every order\n" % number for number in range(200))
    zipped = draft(manifest(replace(ORDERS, rows=200)), [(0, many)])
    yield Vector("good-zstd", "One table, one compressed frame.", zipped.whole())
    cuts = ((0, len(many[0])), (len(many[0]) * 198, len(many[0]) * 2))
    fewer = draft(manifest(replace(ORDERS, rows=197)), [])
    fewer = replace(fewer, frames=(as_frame(0, cut_block(zipped.frames[0], cuts, 197)),))
    yield Vector("good-less", "One table, one compressed frame without the first row and the last two.", fewer.whole())
    yield Vector("good-plain", "One table, stored as it is.", orders().whole())
    two = draft(manifest(USERS, ORDERS), TWO_BLOCKS, compress=False)
    yield Vector("good-two-tables", "Two tables; the second has two frames.", two.whole())
    stubs = manifest(USERS, replace(USERS, rows=1, stub=True), target_node=OTHER.node_id)
    stub_rows: Blocks = [(0, USER_ROWS), (1, (b"user-9\tz@example.test\n",))]
    yield Vector("good-stubs", "Rows and stub rows of one table, made for one device.", draft(stubs, stub_rows).whole())
    every = full(USERS, NODES, kind=Kind.FULL_DEVICE)
    device_rows: Blocks = [(0, USER_ROWS), (1, NODE_ROWS)]
    yield Vector("good-full-device", "A full-device backup with a device section.", draft(every, device_rows).whole())
    unknown = full(replace(USERS, table="new_things", section=Section.UNCLASSIFIED))
    yield Vector(
        "good-unclassified", "A full backup with an unclassified table.", draft(unknown, [(0, USER_ROWS)]).whole()
    )
    alone = manifest(ORDERS, shop_id=None, shop_name=None, warnings=("The table new_things was left out.",))
    yield Vector("good-no-shop", "A device without a shop, and a warning.", draft(alone, ORDER_BLOCKS).whole())


def wrong_start_and_end() -> Iterator[Vector]:
    whole, parts = orders().whole(), orders().parts()
    yield Vector("not-text", "A text file.", b"This is a text file, nothing else.\n", "not-a-bundle")
    yield Vector("not-json", "A backup in the platform's own form.", b'{"metadata":{"version":"3.0"}}', "not-a-bundle")
    wrong_magic = record(Tag.HEADER, pack(["backroom-bungle", 1]))
    yield Vector("not-magic", "A header with another word.", whole.replace(parts[0], wrong_magic), "not-a-bundle")
    later = replace(orders(), header=record(Tag.HEADER, pack(["backroom-bundle", 2, "more"])))
    yield Vector("version-2", "A later version, with more in its header.", later.whole(), "unknown-version")
    longer = replace(orders(), header=record(Tag.HEADER, pack(["backroom-bundle", 1, 0])))
    yield Vector("header-three-values", "Version 1 has two values in its header.", longer.whole(), "malformed")
    yield Vector("cut-empty", "Nothing.", b"", "cut-short")
    yield Vector("cut-in-manifest", "Ends inside the manifest.", whole[:100], "cut-short")
    yield Vector("cut-after-manifest", "Ends after the manifest.", parts[0] + parts[1], "cut-short")
    yield Vector("cut-in-frame", "Ends inside a frame.", b"".join(parts[:3])[:-10], "cut-short")
    yield Vector("cut-before-seal", "All rows, no seal.", b"".join(parts[:3]), "cut-short")
    yield Vector("cut-last-byte", "The last byte is missing.", whole[:-1], "cut-short")
    yield Vector("trailing-byte", "One byte after the seal.", whole + b"\0", "trailing-data")
    yield Vector("trailing-bundle", "Two bundles in one file.", whole + whole, "trailing-data")


def wrong_records() -> Iterator[Vector]:
    header, opening, frame, seal = orders().parts()
    payload = orders().manifest
    short = bytes((0x92, 1, 0xC5)) + len(payload).to_bytes(2, "big") + payload
    yield Vector("record-bin16", "The manifest's length in 16 bits.", header + short + frame + seal, "malformed")
    unknown = bytes((0x92, 4, 0xC6)) + bytes(4)
    yield Vector("record-unknown-tag", "A record with tag 4.", header + opening + unknown + frame + seal, "malformed")
    yield Vector("record-no-manifest", "A frame right after the header.", header + frame + seal, "out-of-order")
    yield Vector("record-two-headers", "The header twice.", header + header + opening + frame + seal, "out-of-order")
    yield Vector("record-two-manifests", "The manifest twice.", header + opening * 2 + frame + seal, "out-of-order")
    large = prefix(Tag.MANIFEST, DEFAULT_LIMITS.manifest_bytes + 1)
    yield Vector("record-manifest-too-large", "A manifest that says it is too large.", header + large, "too-large")
    large = prefix(Tag.FRAME, 0xFFFFFFFF)
    yield Vector(
        "record-frame-too-large", "A frame that says it has 4 GB.", header + opening + large, "frame-too-large"
    )
    large = prefix(Tag.SEAL, DEFAULT_LIMITS.seal_bytes + 1)
    yield Vector(
        "record-seal-too-large", "A seal that says it is too large.", header + opening + frame + large, "too-large"
    )
