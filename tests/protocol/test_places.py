"""Where the frames of a bundle lie: told alike by who writes it and who reads it, and never trusted."""

from __future__ import annotations

import pytest

from protocol.base import Base
from protocol.errors import BadDelta, Malformed, ProtocolError
from protocol.frames import parse_frame
from protocol.limits import DEFAULT_LIMITS
from protocol.places import Packed, unpack_places
from protocol.reader import BundleReader
from tests.protocol.test_delta import bundle, delta, reading, rows, told

TABLES = {"orders": rows(1, 170), "items": rows(2, 30), "notes": []}


def places_of(data: bytes, piece: int = 1 << 20) -> Packed:
    reader = BundleReader()
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    reader.close()
    places = reader.places
    assert places is not None
    return places


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_places_are_where_the_frames_are(piece: int) -> None:
    data = bundle(TABLES, "one")
    found = list(unpack_places(places_of(data, piece)))
    assert [(place.entry, place.rows) for place in found] == [(0, 50), (0, 50), (0, 50), (0, 20), (1, 30)]
    for place in found:
        frame, _ = parse_frame(data[place.position : place.position + place.length], DEFAULT_LIMITS)
        assert (frame.entry, frame.rows, frame.raw_length) == (place.entry, place.rows, place.raw_length)
        assert frame.digest == place.digest


def test_who_writes_knows_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Packed | None] = []
    seal = "protocol.writer.BundleWriter.seal"
    from protocol.writer import BundleWriter

    plainly = BundleWriter.seal

    def sealing(writer: BundleWriter, *arguments: object) -> bytes:
        written.append(writer.places)
        return plainly(writer, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(seal, sealing)
    data = bundle(TABLES, "one")
    assert written == [places_of(data)]


def test_a_base_with_places_reads_no_more_than_its_manifest() -> None:
    data = bundle(TABLES, "one")
    read: list[int] = []

    def noting(position: int, size: int) -> bytes:
        read.append(position)
        return data[position : position + size]

    places = places_of(data)
    base, plainly = Base(noting, places), Base(reading(data))
    assert max(read) < next(unpack_places(places)).position
    assert (base.manifest, base.content, base.frames) == (plainly.manifest, plainly.content, plainly.frames)
    assert [base.frame(number) for number in range(base.frames)] == [plainly.frame(n) for n in range(plainly.frames)]


def test_a_frame_that_is_not_what_its_place_says_is_not_used() -> None:
    data = bytearray(bundle(TABLES, "one"))
    places = places_of(bytes(data))
    place = list(unpack_places(places))[2]
    data[place.position + place.length - 1] ^= 1
    base = Base(reading(bytes(data)), places)
    with pytest.raises(BadDelta):
        base.frame(2)
    assert base.frame(1).rows == 50
    with pytest.raises(ProtocolError):
        Base(reading(bytes(data[: place.position])), places).frame(2)


def test_a_delta_may_be_told_against_places() -> None:
    one = bundle(TABLES, "one")
    two = bundle({**TABLES, "items": rows(3, 31)}, "two")
    assert told(delta(two, one), one) == two


def test_places_that_are_cut_short_are_refused() -> None:
    places = places_of(bundle(TABLES, "one"))
    with pytest.raises(Malformed):
        unpack_places(places[:-1])


def test_of_too_many_frames_no_places_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bundle(TABLES, "one")
    monkeypatch.setattr("protocol.places.MOST_FRAMES", 5)
    assert len(list(unpack_places(places_of(data)))) == 5
    monkeypatch.setattr("protocol.places.MOST_FRAMES", 4)
    reader = BundleReader()
    reader.feed(data)
    assert reader.places is None


def test_who_went_on_from_a_mark_knows_no_places() -> None:
    data = bundle(TABLES, "one")
    reader = BundleReader()
    middle = list(unpack_places(places_of(data)))[3].position
    reader.feed(data[:middle])
    mark = reader.mark()
    assert mark is not None
    again = BundleReader()
    again.feed(data[: mark.head])
    again.go_on(mark)
    again.feed(data[mark.position :])
    again.close()
    assert again.places is None
