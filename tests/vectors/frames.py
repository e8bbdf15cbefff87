"""Frames and seals that are wrong, in otherwise good bundles."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import zstandard

from protocol.canonical import pack
from protocol.frames import Codec, EncodedFrame, frame_digest
from protocol.limits import DEFAULT_LIMITS, MIB
from protocol.records import Tag, record
from tests.vectors.drafts import (
    ORDER_BLOCKS,
    ORDER_ROWS,
    ORDERS,
    OTHER,
    TWO_BLOCKS,
    USER_ROWS,
    USERS,
    Draft,
    Vector,
    draft,
    manifest,
    orders,
)


def remade(frame: EncodedFrame, **changes: Any) -> EncodedFrame:
    """``frame`` with other fields and the digest that fits them."""
    new = replace(frame, **changes)
    return replace(new, digest=frame_digest(new.entry, new.rows, new.raw_length, new.codec, new.data))


def wrong_frames() -> Iterator[Vector]:
    base, plain = orders(), orders().frames[0]
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(MIB) + b"\n")

    def only(name: str, comment: str, error: str, frame: EncodedFrame, stage: str = "read") -> Vector:
        return Vector(name, comment, replace(base, frames=(frame,)).whole(), error, stage)

    header, opening, frame, seal = base.parts()
    flipped = frame.replace(b"order-3", b"order-5")
    yield Vector("frame-flipped", "A row was changed.", header + opening + flipped + seal, "frame-damaged")
    two = draft(manifest(USERS, ORDERS), TWO_BLOCKS).parts()
    swapped = [*two[:3], two[4], two[3], two[5]]
    yield Vector("frame-swapped", "Two frames of one table swapped.", b"".join(swapped), "frame-damaged")
    yield Vector("frame-dropped", "A frame in the middle is missing.", b"".join(two[:3] + two[4:]), "frame-damaged")
    yield Vector("frame-twice", "A frame twice.", b"".join([*two[:4], two[3], *two[4:]]), "frame-damaged")
    other = draft(manifest(ORDERS, bundle_id="bundle-0002"), ORDER_BLOCKS).parts()
    yield Vector("frame-of-another", "A frame of another bundle.", header + opening + other[2] + seal, "frame-damaged")
    five = record(Tag.FRAME, pack([0, 4, plain.raw_length, 0, base.chain()[1]]))
    yield Vector("frame-five-values", "A frame without data.", header + opening + five + seal, "malformed")
    wide = record(Tag.FRAME, frame[7:].replace(b"\x96\x00\x04", b"\x96\x00\xcc\x04", 1))
    yield Vector(
        "frame-long-number",
        "A row count that is not in its shortest form.",
        header + opening + wide + seal,
        "malformed",
    )
    codec = record(Tag.FRAME, pack([0, 4, plain.raw_length, 3, base.chain()[1], plain.data]))
    yield Vector("frame-codec", "A codec that version 1 does not have.", header + opening + codec + seal, "malformed")
    none = record(Tag.FRAME, pack([0, 0, plain.raw_length, 0, base.chain()[1], plain.data]))
    yield Vector("frame-no-rows", "A frame without rows.", header + opening + none + seal, "malformed")
    yield only(
        "frame-length", "A plain frame of another length than it says.", "malformed", remade(plain, raw_length=7)
    )
    short = b"a\nb\nc\nd\n"
    grown_frame = remade(
        plain, codec=Codec.ZSTD, raw_length=len(short), data=zstandard.ZstdCompressor(level=1).compress(short)
    )
    yield only("frame-grown", "Compressed, though that made it longer.", "malformed", grown_frame)
    large = remade(plain, codec=Codec.ZSTD, raw_length=DEFAULT_LIMITS.frame_raw_bytes + 1, data=bomb)
    yield only("frame-raw-too-large", "A frame that unpacks to over 64 MiB.", "frame-too-large", large)
    lies = remade(plain, codec=Codec.ZSTD, raw_length=1_000, data=bomb)
    yield only("frame-bomb", "Says 1,000 bytes, unpacks to a megabyte.", "decompression-bomb", lies)
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(MIB) + b"\n")
    hidden = remade(plain, codec=Codec.ZSTD, raw_length=1_000, data=unsized)
    yield only("frame-bomb-unsized", "Compressed data that does not say its size.", "decompression-bomb", hidden)
    # Magic, no single segment, 8 bytes of size, a window of 1 GiB; the size is right.
    wide_data = struct.pack("<IBBQ", 0xFD2FB528, 0xC0, 0xA0, 10_000) + b"\x01\x00\x00"
    window = remade(plain, codec=Codec.ZSTD, raw_length=10_000, data=wide_data)
    yield only("frame-window", "Needs a window of a gigabyte.", "decompression-bomb", window)
    noise = remade(plain, codec=Codec.ZSTD, raw_length=100, data=b"not zstandard")
    yield only("frame-not-zstd", "Data that is not zstandard.", "frame-damaged", noise)
    yield from wrong_cuts(base)
    yield from wrong_unpacking(base, plain)
    yield from wrong_counts()


def wrong_cuts(base: Draft) -> Iterator[Vector]:
    """Frames that leave rows out of a packed block, and say so wrongly."""
    rows = [b"order-%03d\tPENDING\t1.00\tthe same note\n" % number for number in range(8)]
    long, whole = len(rows[0]), len(rows[0]) * 8
    packed = zstandard.ZstdCompressor(level=1).compress(b"".join(rows))

    def only(name: str, comment: str, error: str, *cuts: tuple[int, int], stage: str = "read", left: int = 4) -> Vector:
        raw_length = whole - sum(length for _, length in cuts)
        data = struct.pack(">I", len(cuts)) + b"".join(struct.pack(">II", *cut) for cut in cuts) + packed
        frame = remade(base.frames[0], codec=Codec.CUT, rows=left, raw_length=raw_length, data=data)
        return Vector(name, comment, replace(base, frames=(frame,)).whole(), error, stage)

    yield only("less-none", "Leaves out no rows, and says so.", "malformed")
    yield only("less-empty", "A stretch of no bytes.", "malformed", (0, long * 4), (long * 5, 0))
    yield only("less-order", "Stretches in the wrong order.", "malformed", (long * 4, long * 2), (0, long * 2))
    yield only("less-touching", "Two stretches that are one.", "malformed", (0, long * 2), (long * 2, long * 2))
    yield only("less-most", "Leaves out more than it has.", "malformed", (0, long * 5))
    yield only("less-beyond", "Leaves out what comes after the block.", "malformed", (long * 6, long * 4))
    half = ((0, long * 3), (long * 4 + 1, long))
    yield only("less-half-row", "A stretch that is not whole rows.", "frame-damaged", *half, stage="unpack")
    yield only("less-rows", "Leaves out fewer rows.", "wrong-row-count", (0, long * 3), stage="unpack")
    lies = struct.pack(">I", 1 << 20) + struct.pack(">II", 0, long * 4) + packed
    frame = remade(base.frames[0], codec=Codec.CUT, raw_length=long * 4, data=lies)
    yield Vector(
        "less-many", "More stretches than there are bytes.", replace(base, frames=(frame,)).whole(), "malformed"
    )


def wrong_unpacking(base: Draft, plain: EncodedFrame) -> Iterator[Vector]:
    """Frames whose chain is right and whose rows are not."""
    rows = b"".join(b"order-%d\tPENDING\t1.00\tthe same note\n" % number for number in range(4))
    packed = zstandard.ZstdCompressor(level=1).compress(rows * 50)
    zipped = {"codec": Codec.ZSTD, "raw_length": len(rows) * 50}

    def only(name: str, comment: str, error: str, frame: EncodedFrame) -> Vector:
        return Vector(name, comment, replace(base, frames=(frame,)).whole(), error, "unpack")

    broken = remade(plain, data=packed[:-8], **zipped)
    yield only("unpack-cut", "Compressed data that ends too early.", "frame-damaged", broken)
    extra = remade(plain, data=packed + b"more", **zipped)
    yield only("unpack-extra", "Bytes after the compressed data.", "frame-damaged", extra)
    twice = remade(plain, data=packed + packed, **zipped)
    yield only("unpack-twice", "Two zstandard frames in one.", "frame-damaged", twice)
    yield only(
        "unpack-rows", "200 lines in a frame of 4 rows.", "wrong-row-count", remade(plain, data=packed, **zipped)
    )
    half = plain.data[:-1] + b"x"
    yield only("unpack-open-row", "The last row does not end.", "wrong-row-count", remade(plain, data=half))


def wrong_counts() -> Iterator[Vector]:
    both = manifest(USERS, ORDERS)
    fewer = draft(both, [(0, USER_ROWS[:1]), (1, ORDER_ROWS)])
    yield Vector("rows-too-few", "A table ends with too few rows.", fewer.whole(), "wrong-row-count")
    skipped = draft(both, [(1, ORDER_ROWS)])
    yield Vector("rows-skipped", "A table with rows has no frame.", skipped.whole(), "wrong-row-count")
    last = draft(both, [(0, USER_ROWS), (1, ORDER_ROWS[:3])])
    yield Vector("rows-too-few-last", "The last table has too few rows.", last.whole(), "wrong-row-count")
    more = draft(manifest(replace(ORDERS, rows=3)), ORDER_BLOCKS)
    yield Vector("rows-too-many", "A table has too many rows.", more.whole(), "wrong-row-count")
    back = draft(both, [(0, USER_ROWS), (1, ORDER_ROWS), (0, USER_ROWS)])
    yield Vector("entry-backwards", "A frame of an entry that is over.", back.whole(), "out-of-order")
    beyond = draft(manifest(ORDERS), [(1, ORDER_ROWS)])
    yield Vector("entry-unknown", "A frame of an entry that the manifest lacks.", beyond.whole(), "out-of-order")


def wrong_seals() -> Iterator[Vector]:
    base = orders()
    seal = base.seal()

    def signed(name: str, comment: str, **changes: Any) -> Vector:
        return Vector(name, comment, base.with_seal(base.sign(replace(seal, **changes))), "bad-seal")

    yield signed("seal-frames", "Signed, but with another number of frames.", frames=2)
    yield signed("seal-rows", "Signed, but with another number of rows.", rows=5)
    yield signed("seal-raw-bytes", "Signed, but with other raw bytes.", raw_bytes=1)
    yield signed("seal-stored-bytes", "Signed, but with other stored bytes.", stored_bytes=1)
    yield signed("seal-entry-rows", "Signed, but with other rows of a table.", entry_rows=(3,))
    yield signed("seal-digest", "Signed, but with another digest.", digest=bytes(32))
    short = base.with_seal(replace(seal, digest=bytes(16)))
    yield Vector("seal-short-digest", "A digest of 16 bytes.", short, "malformed")
    bare = base.with_seal(replace(seal, signature=b""))
    yield Vector("seal-unsigned", "No signature.", bare, "malformed")
    bare = base.with_seal(replace(seal, certificate=b""))
    yield Vector("seal-no-certificate", "No certificate.", bare, "malformed")
    flipped = seal.signature[:-1] + bytes([seal.signature[-1] ^ 1])
    damaged = base.with_seal(replace(seal, signature=flipped))
    yield Vector("verify-flipped", "The last bit of the signature is flipped.", damaged, "bad-seal", "verify")
    renamed = draft(manifest(ORDERS, bundle_id="bundle-0002"), ORDER_BLOCKS)
    moved = renamed.with_seal(replace(renamed.seal(), signature=seal.signature))
    yield Vector("verify-other-manifest", "The signature of another bundle.", moved, "bad-seal", "verify")
    exchanged = base.with_seal(replace(seal, certificate=OTHER.certificate))
    yield Vector("verify-other-certificate", "Another device's certificate.", exchanged, "bad-seal", "verify")
    other = replace(base, device=OTHER)
    yield Vector("verify-other-device", "Rightly signed, by another device.", other.whole(), "wrong-signer", "verify")
