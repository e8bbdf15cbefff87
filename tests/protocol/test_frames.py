from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BundleError, DecompressionBomb, FrameTooLarge, WrongRowCount
from protocol.frames import Codec, EncodedFrame, decode_block, encode_frame, frame_record, parse_frame
from protocol.limits import DEFAULT_LIMITS, MIB, Limits
from protocol.records import PREFIX_SIZE
from tests.protocol.bundles import ROWS

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(ROWS, min_size=1, max_size=50), st.booleans(), st.sampled_from((1, 30)))
def test_block_comes_back(rows: list[bytes], compress: bool, times: int) -> None:
    block = b"".join(rows) * times
    frame = encode_frame(3, len(rows) * times, block, compress=compress)
    assert decode_block(frame) == block
    assert (frame.codec is Codec.ZSTD) == (len(frame.data) < len(block))
    assert compress or frame.data is block


def test_a_packed_block_keeps_no_more_memory_than_its_data() -> None:
    block = b"the same\n" * (MIB // 9)
    tracemalloc.start()
    try:
        frame = encode_frame(0, None, block, compress=True)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(frame.data) < kept < MIB // 4


@given(NUMBERS, st.integers(1, 2**32 - 1), st.binary(max_size=70_000), st.binary(min_size=32, max_size=32))
def test_record_comes_back(entry: int, rows: int, data: bytes, chain: bytes) -> None:
    frame = EncodedFrame(entry, rows, len(data), Codec.NONE, data, b"")
    parsed, stated = parse_frame(frame_record(frame, chain)[PREFIX_SIZE:], DEFAULT_LIMITS)
    assert replace(parsed, digest=b"") == frame
    assert stated == chain


def test_record_is_little_longer_than_its_data() -> None:
    most = EncodedFrame(2**32 - 1, 2**32 - 1, 2**32 - 1, Codec.ZSTD, bytes(MIB), b"")
    overhead = len(frame_record(most, bytes(32))) - PREFIX_SIZE - MIB
    assert overhead <= DEFAULT_LIMITS.frame_bytes_over_data


def test_digest_covers_every_field() -> None:
    frames = [
        encode_frame(0, 1, b"a\n", compress=False),
        encode_frame(1, 1, b"a\n", compress=False),
        encode_frame(0, 1, b"b\n", compress=False),
        encode_frame(0, 2, b"\n\n", compress=False),
        encode_frame(0, 1, b"a" * 90 + b"\n", compress=False),
        encode_frame(0, 1, b"a" * 90 + b"\n", compress=True),
    ]
    assert len({frame.digest for frame in frames}) == len(frames)


@pytest.mark.parametrize("block", [b"", b"a\nb", b"a\n", b"a\nb\nc\n", b"\n\n\n"])
def test_wrong_row_count_is_not_encoded(block: bytes) -> None:
    with pytest.raises(WrongRowCount):
        encode_frame(0, 2, block, compress=True)


@pytest.mark.parametrize("rows", [0, None])
def test_frame_without_rows_is_not_encoded(rows: int | None) -> None:
    with pytest.raises(WrongRowCount):
        encode_frame(0, rows, b"", compress=True)


def test_rows_are_counted_where_nobody_did() -> None:
    frame = encode_frame(0, None, b"a\nb\n", compress=False)
    assert frame == encode_frame(0, 2, b"a\nb\n", compress=False)
    with pytest.raises(WrongRowCount):
        encode_frame(0, None, b"a\nb", compress=False)


def test_large_block_is_not_encoded() -> None:
    with pytest.raises(FrameTooLarge, match="1001 bytes long; 1000 are allowed"):
        encode_frame(0, 1, b"x" * 1000 + b"\n", compress=True, limits=Limits(frame_raw_bytes=1000))


def test_bomb_takes_no_memory() -> None:
    data = zstandard.ZstdCompressor(level=19).compress(bytes(100 * MIB))
    for raw_length in (len(data) + 1, DEFAULT_LIMITS.frame_raw_bytes):
        with pytest.raises(DecompressionBomb):
            decode_block(EncodedFrame(0, 1, raw_length, Codec.ZSTD, data, b""))
    with pytest.raises(FrameTooLarge):
        decode_block(EncodedFrame(0, 1, 100 * MIB, Codec.ZSTD, data, b""))


def test_data_that_lies_about_its_size_is_refused() -> None:
    # The size in zstandard's own header (after magic, descriptor and window) is made to fit; the blocks go beyond it.
    data = bytearray(zstandard.ZstdCompressor(level=1).compress(b"x" * (2 * MIB)))
    assert data[6:10] == (2 * MIB).to_bytes(4, "little")
    data[6:10] = MIB.to_bytes(4, "little")
    with pytest.raises(BundleError):
        decode_block(EncodedFrame(0, 1, MIB, Codec.ZSTD, bytes(data), b""))


def test_skippable_zstandard_frame_is_refused() -> None:
    data = (0x184D2A50).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(80)
    with pytest.raises(BundleError):
        decode_block(EncodedFrame(0, 1, 100, Codec.ZSTD, data, b""))


@given(st.binary(max_size=200), st.integers(0, 500), st.sampled_from(Codec))
def test_any_data_raises_nothing_but_bundle_errors(data: bytes, raw_length: int, codec: Codec) -> None:
    try:
        block = decode_block(EncodedFrame(0, 1, raw_length, codec, data, b""))
    except BundleError:
        return
    assert len(block) == raw_length


@given(st.data())
def test_damaged_zstandard_raises_nothing_but_bundle_errors(data: st.DataObject) -> None:
    frame = encode_frame(0, 300, b"".join(b"row %d of the table\n" % number for number in range(300)), compress=True)
    stored = bytearray(frame.data)
    for position in data.draw(st.lists(st.integers(0, len(stored) - 1), min_size=1, max_size=5)):
        stored[position] ^= data.draw(st.integers(1, 255))
    try:
        block = decode_block(replace(frame, data=bytes(stored)))
    except BundleError:
        return
    assert len(block) == frame.raw_length


def test_frames_may_be_made_in_threads() -> None:
    blocks = [b"%d\tthe same words again and again\n" % number * 2_000 for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(lambda block: encode_frame(0, 2_000, block, compress=True), blocks))
        assert list(pool.map(decode_block, frames)) == blocks
    assert frames == [encode_frame(0, 2_000, block, compress=True) for block in blocks]
