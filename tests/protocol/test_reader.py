from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import CutShort, FrameDamaged, ManifestInvalid, NotABundle, ProtocolError, TrailingData
from protocol.frames import Codec, EncodedFrame, decode_block, encode_frame
from protocol.limits import MIB, Limits
from protocol.manifest import Manifest, Section, TableEntry
from protocol.reader import BundleReader, FrameRead, ManifestRead, Mark, SealRead
from tests.protocol.bundles import Bundle, bundles, events, read, write
from tests.vectors.drafts import ORDERS, USERS, Draft, draft, manifest, orders
from tests.vectors.frames import remade


@given(bundles(), st.integers(1, 300))
def test_round_trip_in_pieces_of_any_size(bundle: Bundle, piece: int) -> None:
    reading = read(bundle.data, piece)
    assert reading.manifest == bundle.manifest
    assert reading.frames == bundle.frames
    assert reading.seal.rows == bundle.manifest.total_rows
    assert sum(decode_block(frame).count(b"\n") for frame in reading.frames) == reading.seal.rows


@given(bundles(), st.data())
def test_any_flipped_byte_is_seen(bundle: Bundle, data: st.DataObject) -> None:
    damaged = bytearray(bundle.data)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolError):
        read(bytes(damaged))


def test_every_flipped_bit_of_a_bundle_is_seen() -> None:
    whole = orders().whole()
    for position in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ProtocolError):
            read(bytes(damaged))


@given(bundles(), st.data())
def test_any_cut_is_seen(bundle: Bundle, data: st.DataObject) -> None:
    with pytest.raises(CutShort):
        read(bundle.data[: data.draw(st.integers(0, len(bundle.data) - 1))])


@given(bundles(), st.binary(min_size=1))
def test_any_trailing_byte_is_seen(bundle: Bundle, more: bytes) -> None:
    with pytest.raises(TrailingData):
        events(bundle.data + more)


@given(st.binary(max_size=400))
@example(b"\x92\x00\xc6\x00\x00\x00\x00")
def test_any_bytes_raise_nothing_but_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


@given(bundles(), st.data())
def test_mangled_bundles_raise_nothing_but_protocol_errors(bundle: Bundle, data: st.DataObject) -> None:
    """Cut out, put in, doubled, moved: whatever is not the bundle itself is refused."""
    pieces = []
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(bundle.data)))
        pieces.append(bundle.data[start : data.draw(st.integers(start, len(bundle.data)))])
        pieces.append(data.draw(st.binary(max_size=8)))
    mangled = b"".join([bundle.data[: data.draw(st.integers(0, len(bundle.data)))], *pieces])
    if mangled == bundle.data:
        return
    with pytest.raises(ProtocolError):
        read(mangled)


@given(bundles(), st.binary(max_size=60), st.integers(1, 3))
def test_any_payload_in_a_proper_record_raises_nothing_but_protocol_errors(
    bundle: Bundle, payload: bytes, tag: int
) -> None:
    opening = b"".join(orders().parts()[: 1 if tag == 1 else 2])
    record = bytes((0x92, tag, 0xC6)) + len(payload).to_bytes(4, "big") + payload
    with pytest.raises(ProtocolError):
        events(opening + record)


NUMBERS = st.integers(0, 5) | st.integers(0, 2**32 - 1)
FRAMES = st.builds(
    EncodedFrame, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(Codec), st.binary(max_size=40), st.just(b"")
)


@given(st.lists(FRAMES, max_size=3))
def test_any_rightly_chained_frames_raise_nothing_but_protocol_errors(frames: list[EncodedFrame]) -> None:
    chained = tuple(remade(frame) for frame in frames)
    data = Draft(manifest(USERS, ORDERS).encode(), chained, entries=2).whole()
    with pytest.raises(ProtocolError):
        read(data)


def test_events_come_as_soon_as_their_bytes_are_there() -> None:
    header, opening, frame, seal = orders().parts()
    reader = BundleReader()
    assert reader.feed(header + opening[:-1]) == []
    assert reader.manifest is None
    (first,) = reader.feed(opening[-1:] + frame[:50])
    assert isinstance(first, ManifestRead)
    assert reader.manifest == first.manifest
    (second,) = reader.feed(frame[50:])
    assert isinstance(second, FrameRead)
    (third,) = reader.feed(bytearray(seal))
    assert isinstance(third, SealRead)
    assert reader.seal == third.seal
    reader.close()
    assert reader.feed(b"") == []


def test_damage_is_seen_at_its_frame_and_not_at_the_seal() -> None:
    blocks = [(0, (b"%d\n" % number,)) for number in range(10)]
    header, opening, *frames, _ = draft(manifest(TableEntry("t", Section.BUSINESS, (), (), 10)), blocks).parts()
    reader = BundleReader()
    reader.feed(header + opening + b"".join(frames[:4]))
    with pytest.raises(FrameDamaged, match="Frame 5 of the bundle"):
        reader.feed(frames[4].replace(b"4\n", b"5\n"))


def test_error_is_raised_again_whatever_comes_after() -> None:
    reader = BundleReader()
    with pytest.raises(NotABundle) as first:
        reader.feed(b"no bundle")
    for again in (lambda: reader.feed(orders().whole()), reader.close):
        with pytest.raises(NotABundle) as caught:
            again()
        assert caught.value is first.value


def test_close_says_how_far_it_came() -> None:
    reader = BundleReader()
    reader.feed(b"".join(orders().parts()[:3]))
    with pytest.raises(CutShort, match="before its seal, after 4 of 4 rows"):
        reader.close()
    with pytest.raises(CutShort, match="before its seal"):
        reader.feed(orders().parts()[3])


def test_short_file_that_is_no_bundle_is_said_to_be_none() -> None:
    for data in (b"x", b"\x92\x01", b"\x92\x00\xc6\xff", b"{}\n"):
        with pytest.raises(NotABundle):
            events(data)
    with pytest.raises(CutShort):
        events(orders().header[:5])


def test_manifest_may_be_refused_before_any_frame_is_read() -> None:
    class Refused(Exception):
        pass

    def accept(found: Manifest) -> None:
        raise Refused(found.bundle_id)

    reader = BundleReader(accept=accept)
    with pytest.raises(Refused, match="bundle-0001"):
        reader.feed(orders().whole())
    assert reader.manifest is None
    with pytest.raises(Refused):
        reader.feed(b"")


@given(bundles(), st.data())
def test_reading_goes_on_from_any_mark_as_if_it_had_not_stopped(bundle: Bundle, data: st.DataObject) -> None:
    first = BundleReader()
    first.feed(bundle.data[: (cut := data.draw(st.integers(0, len(bundle.data) - 1)))])
    mark = first.mark()
    if mark is None:
        assert first.manifest is None
        return
    again = Mark.decode(mark.encode())
    assert again == mark
    assert mark.head <= mark.position <= cut
    later = BundleReader()
    later.feed(bundle.data[: mark.head])
    later.go_on(again)
    later.feed(bundle.data[mark.position :])
    later.close()
    assert later.seal == read(bundle.data).seal


def test_a_mark_that_does_not_belong_to_the_bundle_is_refused() -> None:
    data = orders().whole()
    first = BundleReader()
    first.feed(data[:-200])
    mark = first.mark()
    assert mark is not None
    wrong = (
        replace(mark, manifest=b"x" * 32),
        replace(mark, head=mark.head + 1),
        replace(mark, position=mark.head - 1),
        replace(mark, counts=replace(mark.counts, entry_rows=())),
        replace(mark, counts=replace(mark.counts, entry_rows=(1 << 40,) * len(mark.counts.entry_rows))),
    )
    for each in wrong:
        reader = BundleReader()
        reader.feed(data[: mark.head])
        with pytest.raises(ProtocolError):
            reader.go_on(each)
    with pytest.raises(ProtocolError):
        first.go_on(mark)
    for damaged in (b"", b"x", mark.encode()[:-1]):
        with pytest.raises(ProtocolError):
            Mark.decode(damaged)


def test_limits_are_those_given() -> None:
    assert events(orders().whole(), reader=BundleReader(Limits(columns=4)))
    with pytest.raises(ManifestInvalid):
        events(orders().whole(), reader=BundleReader(Limits(columns=3)))


def test_small_pieces_cost_no_more_than_their_bytes() -> None:
    block = random.Random(1).randbytes(8 * MIB).replace(b"\n", b"n") + b"\n"
    entry = TableEntry("t", Section.BUSINESS, (), (), 1)
    large = write(manifest(entry), (encode_frame(0, 1, block, compress=False),))
    started = time.process_time()
    assert len(events(large.data, 1024)) == 3
    # Copying what is there at each piece would move 32 GB.
    assert time.process_time() - started < 3
