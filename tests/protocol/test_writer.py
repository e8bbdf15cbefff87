from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import FrameTooLarge, Malformed, ManifestInvalid, OutOfOrder, WrongRowCount
from protocol.frames import Codec, EncodedFrame, encode_frame
from protocol.limits import Limits
from protocol.manifest import Options
from protocol.writer import BundleWriter
from tests.protocol.bundles import read
from tests.vectors.drafts import FINANCE, ORDER_ROWS, ORDERS, USER_ROWS, USERS, manifest, orders


def frame(entry: int, rows: tuple[bytes, ...]) -> EncodedFrame:
    return encode_frame(entry, len(rows), b"".join(rows), compress=True)


def test_writes_what_the_vectors_hold() -> None:
    writer = BundleWriter(manifest(ORDERS, options=Options(compress=False)))
    plain = encode_frame(0, len(ORDER_ROWS), b"".join(ORDER_ROWS), compress=False)
    made = writer.header() + writer.frame(plain) + writer.seal(FINANCE.signer, FINANCE.certificate)
    assert made == orders().whole()


def test_frames_are_held_to_the_manifest() -> None:
    writer = BundleWriter(manifest(USERS, ORDERS))
    writer.header()
    with pytest.raises(WrongRowCount, match="users has 0 of the 2 rows"):
        writer.frame(frame(1, ORDER_ROWS))
    writer.frame(frame(0, USER_ROWS))
    with pytest.raises(WrongRowCount, match="users has more than the 2 rows"):
        writer.frame(frame(0, USER_ROWS))
    writer.frame(frame(1, ORDER_ROWS[:1]))
    with pytest.raises(OutOfOrder, match="A frame of users comes after business_orders"):
        writer.frame(frame(0, USER_ROWS))
    with pytest.raises(OutOfOrder, match="the manifest has 2"):
        writer.frame(frame(2, USER_ROWS))
    with pytest.raises(WrongRowCount, match="business_orders has 1 of the 4 rows"):
        writer.seal(FINANCE.signer, FINANCE.certificate)
    writer.frame(frame(1, ORDER_ROWS[1:]))
    assert writer.seal(FINANCE.signer, FINANCE.certificate)


def test_a_refused_frame_leaves_no_trace() -> None:
    writer = BundleWriter(manifest(ORDERS))
    parts = [writer.header(), writer.frame(frame(0, ORDER_ROWS[:2]))]
    with pytest.raises(WrongRowCount):
        writer.frame(frame(0, ORDER_ROWS))
    parts += [writer.frame(frame(0, ORDER_ROWS[2:])), writer.seal(FINANCE.signer, FINANCE.certificate)]
    assert read(b"".join(parts)).seal.frames == 2


def test_header_first_and_once_seal_last_and_once() -> None:
    writer = BundleWriter(manifest())
    for early in (lambda: writer.frame(frame(0, USER_ROWS)), lambda: writer.seal(FINANCE.signer, b"c")):
        with pytest.raises(OutOfOrder, match="starts with its header"):
            early()
    writer.header()
    with pytest.raises(OutOfOrder, match="one header"):
        writer.header()
    writer.seal(FINANCE.signer, FINANCE.certificate)
    for late in (writer.header, lambda: writer.seal(FINANCE.signer, FINANCE.certificate)):
        with pytest.raises(OutOfOrder):
            late()


def test_refuses_what_no_reader_would_take() -> None:
    with pytest.raises(ManifestInvalid):
        BundleWriter(manifest(ORDERS, ORDERS))
    writer = BundleWriter(manifest(replace(ORDERS, rows=1)), Limits(frame_raw_bytes=5))
    writer.header()
    with pytest.raises(FrameTooLarge):
        writer.frame(frame(0, (b"longer\n",)))
    with pytest.raises(Malformed):
        writer.frame(EncodedFrame(0, 1, 3, Codec.NONE, b"a\n", b""))
    empty = BundleWriter(manifest())
    empty.header()
    for certificate, signature in ((b"", b"s"), (b"c", b""), (b"c", bytes(600)), (bytes(20_000), b"s")):
        with pytest.raises(Malformed):
            empty.seal(lambda _, signature=signature: signature, certificate)
