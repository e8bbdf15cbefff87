"""Deltas: the very bytes of the new bundle come back, most of it is not sent, and nothing odd is believed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.base import Base, Read, records
from protocol.delta import EDITED, LIKE, LITERAL, SAME, DeltaReader, DeltaWriter, News, literal
from protocol.errors import BadDelta, ProtocolError
from protocol.frames import EncodedFrame, decode_block, encode_frame
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from tests.protocol.bundles import read, write
from tests.vectors.drafts import FINANCE

Tables = dict[str, list[bytes]]
CREATED = datetime(2026, 1, 1, 15, 30, 45, tzinfo=UTC)


def bundle(tables: Tables, name: str, *, per_frame: int = 50, compress: bool = True) -> bytes:
    """A sealed bundle of these rows."""
    frames: list[EncodedFrame] = []
    for index, rows in enumerate(tables.values()):
        for start in range(0, len(rows), per_frame):
            block = rows[start : start + per_frame]
            frames.append(encode_frame(index, len(block), b"".join(block), compress=compress))
    return bundle_of({table: len(rows) for table, rows in tables.items()}, name, frames)


def bundle_of(tables: dict[str, int], name: str, frames: Sequence[EncodedFrame]) -> bytes:
    """A sealed bundle of these frames, for tables of so many rows."""
    entries = [
        TableEntry(table, Section.BUSINESS, (ColumnEntry("id", "text"),), ("id",), count)
        for table, count in tables.items()
    ]
    manifest = Manifest(
        version=1,
        bundle_id=name,
        kind=Kind.BUSINESS,
        shop_id=None,
        shop_name=None,
        source_node=FINANCE.node_id,
        source_device="laptop-finance-001",
        target_node=None,
        business=BusinessRef("b1", "Restaurant ABC"),
        created=CREATED,
        created_by="test",
        options=Options(),
        schema_fingerprint="0",
        server_version="18",
        tables=tuple(entries),
    )
    return write(manifest, tuple(frames)).data


def reading(data: bytes) -> Read:
    return lambda position, size: data[position : position + size]


def delta(new: bytes, base: bytes) -> bytes:
    writer = DeltaWriter(Base(reading(base)))
    return b"".join(writer.record(tag, whole) for _, tag, whole in records(reading(new)))


def told(data: bytes, base: bytes, piece: int = 1 << 20) -> bytes:
    reader = DeltaReader(Base(reading(base)))
    return b"".join(part for start in range(0, len(data), piece) for part in reader.feed(data[start : start + piece]))


def rows(seed: int, count: int) -> list[bytes]:
    chance = random.Random(seed)
    return [f"{number:06d}\t{chance.getrandbits(200):x}\t\\N\n".encode() for number in range(count)]


def test_a_few_changed_rows_cost_a_few_bytes() -> None:
    before = {"orders": rows(1, 20_000), "users": rows(2, 500)}
    after = {name: list(each) for name, each in before.items()}
    for number in random.Random(3).sample(range(20_000), 20):
        after["orders"][number] = after["orders"][number].replace(b"\\N", b"paid")
    del after["orders"][777]
    after["orders"].insert(5000, b"005000b\tnew\t\\N\n")
    base, new = bundle(before, "one", per_frame=1000), bundle(after, "two", per_frame=1000)
    sent = delta(new, base)
    assert told(sent, base, 10_000) == new
    assert len(sent) < len(new) / 50
    assert read(new).seal.rows == 20_500


def test_equal_tables_are_only_named_even_where_the_row_order_of_others_changed() -> None:
    before = {"orders": rows(1, 5000), "users": rows(2, 5000)}
    after = {"orders": rows(1, 5000), "users": list(reversed(rows(2, 5000)))}
    base, new = bundle(before, "one"), bundle(after, "two")
    sent = delta(new, base)
    assert told(sent, base) == new
    assert sent.count(struct.pack(">BI", SAME, 36)) == 100


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 30),
    st.integers(0, 300),
    st.lists(st.sampled_from(["change", "insert", "delete", "move", "truncate"]), max_size=12),
    st.booleans(),
    st.booleans(),
    st.integers(1, 5000),
    st.floats(0, 1),
)
def test_any_change_comes_back(
    seed: int, count: int, edits: list[str], was_packed: bool, is_packed: bool, piece: int, share: float
) -> None:
    chance = random.Random(seed)
    before: Tables = {"a": rows(seed, count), "b": rows(seed + 1, 40), "c": []}
    after: Tables = {"b": list(before["b"]), "new": rows(5, 10), "a": list(before["a"])}
    for edit in edits:
        found = after["a"]
        place = chance.randrange(len(found)) if found else 0
        match edit:
            case "change" if found:
                found[place] = found[place].replace(b"\t", b"\tx", 1)
            case "delete" if found:
                del found[place]
            case "insert":
                found.insert(place, f"{chance.random()}\ty\t\\N\n".encode())
            case "move" if found:
                found.append(found.pop(place))
            case "truncate":
                del found[place:]
    base, new = bundle(before, "one", compress=was_packed), bundle(after, "two", compress=is_packed)
    sent = delta(new, base)
    assert told(sent, base, piece) == new
    _check_news(sent, new, base)
    # The reader has a part of it already.
    offset = int(share * len(new))
    writer, sent = DeltaWriter(Base(reading(base))), bytearray()
    for position, tag, whole in records(reading(new)):
        if position >= offset:
            sent += writer.record(tag, whole)
        else:
            writer.skip(tag, whole)
            sent += literal(whole[max(0, offset - position) :])
    assert told(bytes(sent), base) == new[offset:]


def _check_news(sent: bytes, new: bytes, base: bytes) -> None:
    """Rows of an edited frame that are not among the news are in those frames of the base that it was told by."""
    known = Base(reading(base))
    news = News(known.content)
    assert b"".join(DeltaReader(known, news).feed(sent)) == new
    for frame in read(new).frames:
        if frame.digest in news.frames:
            first, count, found = news.frames[frame.digest]
            before = {*known.prefix(first, count).split(b"\n"), *found.split(b"\n")}
            assert before >= set(decode_block(frame).split(b"\n"))


def test_news_are_the_rows_that_changed() -> None:
    after = rows(1, 3000)
    after[500] = after[500].replace(b"\\N", b"paid")
    del after[700]
    after.insert(900, b"000900b\tnew\t\\N\n")
    base, new = (
        bundle({"orders": rows(1, 3000)}, "one", per_frame=3000),
        bundle({"orders": after}, "two", per_frame=3000),
    )
    news = News(Base(reading(base)).content)
    assert b"".join(DeltaReader(Base(reading(base)), news).feed(delta(new, base))) == new
    assert list(news.frames.values()) == [(0, 1, after[500] + after[900])]


def test_rows_that_have_nothing_in_common_are_no_edits() -> None:
    base, new = bundle({"orders": rows(1, 500)}, "one"), bundle({"orders": rows(2, 500)}, "two")
    news = News(Base(reading(base)).content)
    assert b"".join(DeltaReader(Base(reading(base)), news).feed(delta(new, base))) == new
    assert not news.frames


def piece(what: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BI", what, len(payload) if length is None else length) + payload


def like(first: int = 0, count: int = 1, raw_length: int = 10, patch: bytes = b"") -> bytes:
    return piece(LIKE, struct.pack(">IHIIIB32s", first, count, 0, 1, raw_length, 1, bytes(32)) + patch)


def edited(*stretches: tuple[int, int], new: bytes = b"", raw_length: int, count: int | None = None) -> bytes:
    numbers = b"".join(struct.pack(">II", *each) for each in stretches)
    told = zstandard.compress(struct.pack(">I", len(stretches) if count is None else count) + numbers + new)
    return piece(EDITED, struct.pack(">IHIIIB32s", 0, 1, 0, 1, raw_length, 0, bytes(32)) + told)


NEW = (1 << 32) - 1
ROW = len(rows(1, 1)[0])


def test_edits_by_hand() -> None:
    base = bundle({"orders": rows(1, 200)}, "one")
    assert rows(1, 1)[0] in told(edited((0, ROW), raw_length=ROW), base)
    assert b"x\n" in told(edited((NEW, 2), new=b"x\n", raw_length=2), base)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: piece(9, b""),
        lambda: piece(LITERAL, b"", (1 << 20) + 1),
        lambda: piece(LITERAL, b""),
        lambda: piece(LIKE, b"", 1 << 31),
        lambda: piece(SAME, b"short"),
        lambda: piece(SAME, struct.pack(">I32s", 1 << 31, bytes(32))),
        lambda: piece(LIKE, b"short"),
        lambda: like(count=0),
        lambda: like(first=3, count=60_000),
        lambda: like(raw_length=1 << 31),
        lambda: like(patch=b"not zstandard"),
        lambda: like(patch=bytes.fromhex("28b52ffd2000010000")),
        lambda: piece(EDITED, like(patch=b"not zstandard")[5:]),
        lambda: edited((0, ROW), raw_length=ROW + 1),
        lambda: edited((0, ROW), raw_length=ROW, count=2),
        lambda: edited((0, ROW), raw_length=ROW, count=1 << 31),
        lambda: edited((0, ROW - 1), (ROW - 1, 1), raw_length=ROW),
        lambda: edited((1, ROW), raw_length=ROW),
        lambda: edited((1 << 30, ROW), raw_length=ROW),
        lambda: edited((0, ROW), (ROW, 0), raw_length=ROW),
        lambda: edited((0, ROW), new=b"over\n", raw_length=ROW),
        lambda: edited((0, ROW), (NEW, 5), new=b"no\n", raw_length=ROW + 5),
        lambda: edited((0, ROW), (NEW, 2), new=b"no", raw_length=ROW + 2),
        lambda: edited(*[(0, 25 * ROW)] * 100_000, raw_length=1 << 25),
        lambda: edited((0, ROW), raw_length=ROW) * 12_000,
        lambda: edited((0, ROW), new=bytes(1 << 26), raw_length=1 << 26),
        lambda: edited((0, ROW), new=bytes(1 << 10), raw_length=ROW),
    ],
)
def test_what_no_writer_makes_is_refused(wrong: Callable[[], bytes]) -> None:
    base = bundle({"orders": rows(1, 200)}, "one")
    with pytest.raises(BadDelta):
        told(wrong(), base)


def test_a_delta_against_another_base_is_noticed() -> None:
    base, other = bundle({"orders": rows(1, 500)}, "one"), bundle({"orders": rows(7, 500)}, "other")
    new = bundle({"orders": [*rows(1, 500), b"z\tz\t\\N\n"]}, "two")
    with pytest.raises(ProtocolError):
        read(told(delta(new, base), other))


def test_a_base_that_is_cut_short_is_refused() -> None:
    whole = bundle({"orders": rows(1, 200)}, "one")
    with pytest.raises(BadDelta):
        Base(reading(whole[:-5]))


def test_edits_beyond_count_are_refused_before_they_are_made() -> None:
    with pytest.raises(BadDelta, match="too many"):
        told(edited(*[(0, ROW)] * 65_537, raw_length=65_537 * ROW), bundle({"orders": rows(1, 200)}, "one"))


def test_many_tiny_pieces_are_given_on_together() -> None:
    reader = DeltaReader(Base(reading(bundle({"orders": rows(1, 10)}, "one"))))
    parts = list(reader.feed(piece(LITERAL, b"xxxx") * 300_000))
    assert (len(parts), sum(map(len, parts))) == (2, 1_200_000)


def test_news_take_no_more_memory_than_they_may() -> None:
    news = News("")
    for number in range(100_000):
        news.add(number.to_bytes(32, "big"), 0, 1, b"")
    assert len(news.frames) == (16 << 20) // 256


def test_rows_in_another_order_are_told_in_another_way_where_their_edits_were_too_many() -> None:
    before = [f"{number}\n".encode() for number in range(70_000)]
    base, new = (bundle({"a": each}, "one", per_frame=70_000) for each in (before, before[::-1]))
    news = News("")
    assert b"".join(DeltaReader(Base(reading(base)), news).feed(delta(new, base))) == new
    assert not news.frames


def test_a_base_of_countless_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.base.MOST_FRAMES", 4)
    assert Base(reading(bundle({"orders": rows(1, 200)}, "one"))).frames == 4
    with pytest.raises(BadDelta):
        Base(reading(bundle({"orders": rows(1, 201)}, "one")))
