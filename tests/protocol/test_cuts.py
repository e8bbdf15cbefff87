"""Rows that are left out of a packed block: the rest comes back, in the bundle and in deltas."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.base import Base, records
from protocol.cuts import Cut, apply_cuts, covers, is_cut, join_cuts, pack_cuts, unpack_cuts
from protocol.delta import CUT, SAME, DeltaReader, DeltaWriter, News
from protocol.errors import BadDelta, Malformed, ProtocolError
from protocol.frames import EncodedFrame, as_frame, cut_block, decode_block, encode_frame, whole_block
from protocol.records import Tag
from tests.protocol.bundles import read
from tests.protocol.test_delta import bundle_of, delta, piece, reading, rows, told

CUTS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12)


def places(cuts: Sequence[Cut]) -> set[int]:
    return {at for start, length in cuts for at in range(start, start + length)}


def less(frame: EncodedFrame, gone: set[int]) -> EncodedFrame:
    """The frame without the rows of these numbers, counted in its whole block, and without those it lacks already."""
    block, before = whole_block(frame)
    starts = [0]
    for row in block.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    stretches = [(starts[number], starts[number + 1] - starts[number]) for number in sorted(gone)]
    fresh = [cut for cut in stretches if not is_cut(before, cut[0])]
    return as_frame(frame.entry, cut_block(frame, join_cuts((*before, *fresh)), frame.rows - len(fresh)))


@given(CUTS)
def test_joined_cuts_are_the_same_bytes_in_order(cuts: list[Cut]) -> None:
    joined = join_cuts(cuts)
    assert places(joined) == places(cuts)
    assert all(sum(one) < other[0] for one, other in pairwise(joined))
    assert [is_cut(joined, at) for at in range(80)] == [at in places(cuts) for at in range(80)]
    if joined:
        assert unpack_cuts(pack_cuts(joined) + b"rest") == (joined, 4 + 8 * len(joined))


@given(CUTS, CUTS)
def test_what_is_covered(one: list[Cut], other: list[Cut]) -> None:
    assert covers(join_cuts(one), join_cuts(other)) == (places(other) <= places(one))


@given(st.integers(1, 80), st.sets(st.integers(0, 79)), st.sets(st.integers(0, 79)))
def test_rows_that_are_left_out_twice_over(count: int, first: set[int], second: set[int]) -> None:
    lines = rows(1, count) + rows(1, 80)
    frame = encode_frame(3, len(lines), b"".join(lines), compress=True)
    for gone in (first, first | second):
        if gone:
            frame = less(frame, gone)
            left = [row for number, row in enumerate(lines) if number not in gone]
            if 2 * len(left) >= len(lines):
                assert decode_block(frame) == b"".join(left)
                assert (frame.entry, frame.rows) == (3, len(left))
            else:
                with pytest.raises(Malformed):
                    decode_block(frame)


def test_cuts_that_are_no_rows_are_refused() -> None:
    for cut in ((0, 3), (1, 2), (4, 8)):
        with pytest.raises(ProtocolError):
            apply_cuts(b"a\nbb\nccc\n", [cut])
    assert apply_cuts(b"a\nbb\nccc\n", [(2, 3)]) == b"a\nccc\n"


def frames_of(data: bytes) -> list[EncodedFrame]:
    return list(read(data).frames)


def test_a_frame_that_lost_rows_is_told_by_which() -> None:
    lines = rows(1, 4000)
    frames = [encode_frame(0, 1000, b"".join(lines[at : at + 1000]), compress=True) for at in range(0, 4000, 1000)]
    first = bundle_of({"orders": 4000}, "one", frames)
    tail = encode_frame(0, 2, b"new1\t\\N\nnew2\t\\N\n", compress=True)
    once = bundle_of({"orders": 3999}, "two", [less(frames[0], {5, 6, 900}), *frames[1:], tail])
    more = [less(frames_of(once)[0], {7}), frames[1], less(frames[2], {1}), frames[3], tail]
    twice = bundle_of({"orders": 3997}, "three", more)
    for new, base, kinds in ((once, first, [CUT, SAME, SAME, SAME]), (twice, once, [CUT, SAME, CUT, SAME, SAME])):
        sent = delta(new, base)
        news = News(Base(reading(base)).content)
        assert b"".join(DeltaReader(Base(reading(base)), news).feed(sent)) == new
        assert len(sent) < 2500
        assert [kind for kind in told_kinds(sent) if kind in (CUT, SAME)] == kinds
        assert {rows_of_news for _, _, rows_of_news in news.frames.values()} <= {b""}
    # The other way round rows come back: of these nothing may be believed.
    news = News(Base(reading(twice)).content)
    assert b"".join(DeltaReader(Base(reading(twice)), news).feed(delta(once, twice))) == once
    assert frames_of(once)[0].digest not in news.frames


def told_kinds(sent: bytes) -> list[int]:
    kinds = []
    while sent:
        kind, length = struct.unpack_from(">BI", sent)
        kinds.append(kind)
        sent = sent[5 + length :]
    return kinds


def test_a_block_that_the_base_lacks_travels_as_it_is() -> None:
    frame = encode_frame(0, 1000, b"".join(rows(1, 1000)), compress=True)
    base = bundle_of({"orders": 1000}, "one", [encode_frame(0, 1000, b"".join(rows(2, 1000)), compress=True)])
    new = bundle_of({"orders": 998}, "two", [less(frame, {5, 900})])
    assert told(delta(new, base), base) == new
    # A writer that goes on in the middle knows where it is.
    writer = DeltaWriter(Base(reading(bundle_of({"orders": 1000}, "old", [frame]))))
    for _, tag, whole in records(reading(new)):
        if tag is not Tag.SEAL:
            writer.skip(tag, whole)


def cut(*cuts: Cut, number: int = 0, left: int = 100, more: bytes = b"") -> bytes:
    return piece(CUT, struct.pack(">III32s", number, 0, left, bytes(32)) + pack_cuts(cuts) + more)


ROW = len(rows(1, 1)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        piece(CUT, b"short"),
        cut((0, ROW), number=7),
        cut(),
        cut((0, 0)),
        cut((0, ROW), more=b"x"),
        cut((ROW, ROW), (0, ROW)),
        cut((0, 1 << 31)),
        cut((0, 150 * ROW)),
        cut((300 * ROW, ROW)),
        cut((0, ROW), number=1),
        cut((3, ROW), left=199),
        cut((0, ROW), left=150),
    ],
)
def test_wrong_pieces_are_refused(wrong: bytes) -> None:
    packed = encode_frame(0, 200, b"".join(rows(1, 200)), compress=True)
    plain = encode_frame(0, 20, b"".join(rows(2, 20)), compress=False)
    base = bundle_of({"orders": 220}, "one", [packed, plain])
    with pytest.raises(BadDelta):
        told(wrong, base)
    assert told(cut((0, ROW), left=199), base)


@pytest.mark.parametrize("seed", range(20))
def test_many_generations_come_back(seed: int) -> None:
    chance = random.Random(seed)
    lines = rows(seed, 900)
    frames = [encode_frame(0, 300, b"".join(lines[at : at + 300]), compress=True) for at in range(0, 900, 300)]
    base = bundle_of({"orders": 900}, "0", frames)
    gone: list[set[int]] = [set(), set(), set()]
    for generation in range(1, 6):
        for place in range(3):
            fresh = set(chance.sample(range(300), chance.randrange(0, 12)))
            if fresh - gone[place]:
                gone[place] |= fresh
                frames[place] = less(frames[place], fresh)
        new = bundle_of({"orders": sum(frame.rows for frame in frames)}, str(generation), frames)
        assert told(delta(new, base), base, chance.randrange(1, 2000)) == new
        assert [len(decode_block(frame).splitlines()) for frame in frames] == [300 - len(each) for each in gone]
        base = new


def test_frames_that_are_gone_in_between_do_not_lose_the_place() -> None:
    lines = rows(1, 4000)
    frames = [encode_frame(0, 200, b"".join(lines[at : at + 200]), compress=True) for at in range(0, 4000, 200)]
    base = bundle_of({"orders": 4000}, "one", frames)
    left = [less(frame, {5}) for frame in (*frames[7:9], *frames[15:], frames[2])]
    new = bundle_of({"orders": sum(frame.rows for frame in left)}, "two", left)
    sent = delta(new, base)
    assert told(sent, base) == new
    assert told_kinds(sent).count(CUT) == len(left)
