"""Deltas: a bundle told by what it has in common with an earlier one (PEER.md, "Deltas"). Does no I/O of its own.

Both sides hold the earlier bundle, the *base*. A frame that is in the base is named; a frame that is like some of its
frames travels as a zstandard frame with those as its prefix. The reader gets the very bytes of the new bundle back, so
its chain and seal say whether that worked: a delta is never trusted.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import zstandard

from protocol.errors import BadDelta, BundleError
from protocol.frames import Codec, EncodedFrame, decode_block, encode_frame, frame_record, parse_frame
from protocol.limits import DEFAULT_LIMITS
from protocol.manifest import Manifest
from protocol.records import PREFIX_SIZE, Tag, parse_prefix

LITERAL, SAME, LIKE = range(3)
LITERAL_BYTES = 1 << 20
_PIECE = struct.Struct(">BI")
_SAME = struct.Struct(">I32s")
_LIKE = struct.Struct(">IHIIIB32s")
_LEVEL = 1
_WINDOW_LOG = 24
_TABLE_LOG = 15
# What a changed block has in common with its prefix are whole rows: long matches, for which few places of the prefix
# need to be remembered.
_MIN_MATCH = 7
_PLACES_LOG = 4
_PREFIX_BYTES = (1 << _WINDOW_LOG) - (4 << 20)
_PREFIX_FRAMES = 64
_CACHED = 8
_KEY_BYTES = 256
_AHEAD = 4
"""How many first rows of the base may be gone before the place in it is lost."""

Read = Callable[[int, int], bytes]
"""``read(position, size)``: that many bytes of a bundle file from there, fewer at its end."""


def records(read: Read) -> Iterator[tuple[int, Tag, bytes]]:
    """Position, tag and all bytes of each record of a bundle file. Raises ``ProtocolError``."""
    position = 0
    while start := read(position, PREFIX_SIZE):
        if len(start) < PREFIX_SIZE:
            raise BadDelta("The bundle ends in the middle of a record.")
        tag, length = parse_prefix(start)
        payload = read(position + PREFIX_SIZE, length)
        if len(payload) < length:
            raise BadDelta("The bundle ends in the middle of a record.")
        yield position, tag, start + payload
        position += PREFIX_SIZE + length


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame of the base is, and what tells it from others."""

    entry: int
    rows: int
    raw_length: int
    digest: bytes
    position: int
    length: int


class Base:
    """An earlier bundle, read where it lies. Making it reads the file once; raises ``ProtocolError``."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._places: list[_Place] = []
        self.manifest: Manifest | None = None
        for position, tag, whole in records(read):
            payload = whole[PREFIX_SIZE:]
            if tag is Tag.MANIFEST:
                self.manifest = Manifest.decode(payload)
            elif tag is Tag.FRAME:
                frame, _ = parse_frame(payload, DEFAULT_LIMITS)
                start = position + PREFIX_SIZE
                place = _Place(frame.entry, frame.rows, frame.raw_length, frame.digest, start, len(payload))
                self._places.append(place)
        self._numbers = {place.digest: number for number, place in enumerate(self._places)}

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return len(self._places)

    @property
    def content(self) -> str:
        """A digest over those of all frames, in hex: with the same one, bundles have the same rows in their entries."""
        return sha256(b"".join(place.digest for place in self._places)).hexdigest()

    def frame(self, number: int) -> EncodedFrame:
        """The frame of that number, from 0. Raises :class:`BadDelta` where there is none."""
        if number >= len(self._places):
            raise BadDelta(f"The delta speaks of frame {number} of a bundle that has {len(self._places)}.")
        place = self._places[number]
        frame = parse_frame(self._read(place.position, place.length), DEFAULT_LIMITS)[0]
        if frame.digest != place.digest:
            raise BadDelta("The earlier bundle is not any more what it was a moment ago.")
        return frame

    def block(self, number: int) -> bytes:
        """The rows of that frame as COPY text."""
        if number not in self._blocks:
            self._blocks[number] = decode_block(self.frame(number))
            while len(self._blocks) > _CACHED:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def prefix(self, first: int, count: int) -> bytes:
        """The rows of these frames in a row. Raises :class:`BadDelta` where that is more than a delta may use."""
        if not 0 < count <= _PREFIX_FRAMES or first + count > len(self._places):
            raise BadDelta("The delta uses frames that its base does not have, or too many.")
        if sum(place.raw_length for place in self._places[first : first + count]) > _PREFIX_BYTES:
            raise BadDelta("The delta uses more rows of its base at a time than is allowed.")
        return b"".join(self.block(number) for number in range(first, first + count))

    def same(self, frame: EncodedFrame) -> int | None:
        """The number of the frame that is this one; None where the base has none."""
        return self._numbers.get(frame.digest)

    def range(self, entry: int) -> tuple[int, int]:
        """The numbers of the first frame of that entry and of the one after its last."""
        start = bisect_left(self._places, entry, key=lambda place: place.entry)
        return start, bisect_left(self._places, entry + 1, key=lambda place: place.entry)

    def raw_length(self, number: int) -> int:
        """How long the rows of that frame are, in bytes."""
        return self._places[number].raw_length


class Matcher:
    """Finds what frames of a bundle, given in order, have in common with ``base``."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._entries: dict[int, int] = {}
        self._entry = -1
        self._at = self._end = 0

    def meet(self, manifest: Manifest) -> None:
        """The manifest of the bundle; it comes before any frame."""
        before = self._base.manifest
        places = {(e.table, e.stub): number for number, e in enumerate(before.tables)} if before else {}
        self._entries = {
            number: places[e.table, e.stub] for number, e in enumerate(manifest.tables) if (e.table, e.stub) in places
        }

    def same(self, frame: EncodedFrame) -> int | None:
        """The number of the base's frame that is this very one; None where there is none."""
        number = self._base.same(frame)
        if number is not None:
            self._start(frame.entry)
            self._at = number
        return number

    def alike(self, entry: int, block: bytes) -> tuple[int, int]:
        """The frames of the base that hold rows of this block, as first and count; count 0 where there are none.

        Rows stand in the same order in both: the block begins where the one before it ended, and goes on as long as
        first rows of frames are found in it.
        """
        self._start(entry)
        if self._at >= self._end:
            return 0, 0
        near = range(self._at, min(self._at + 2, self._end))
        beginning = _key(block, 0)
        first = last = next((number for number in near if self._key(number) == beginning), self._at)
        if self._key(last) == beginning and self._last_key(last) == _last_key(block):
            # Blocks end where their rows say: rows that changed in between moved no other.
            self._at = last
            return last, 1
        while True:
            ahead = range(last + 1, min(last + 1 + _AHEAD, self._end))
            found = next((number for number in ahead if self._begins_in(number, block)), None)
            if found is None:
                break
            last = found
        self._at = last
        size = 0
        for number in range(last, first - 1, -1):
            size += self._base.raw_length(number)
            if size > _PREFIX_BYTES or last - number >= _PREFIX_FRAMES:
                first = number + 1
                break
        return first, last + 1 - first

    def _start(self, entry: int) -> None:
        """Stand at the first frame of the base that is of that entry, where it is not there already."""
        if entry != self._entry:
            self._entry = entry
            known = self._entries.get(entry)
            self._at, self._end = self._base.range(known) if known is not None else (0, 0)

    def _key(self, number: int) -> bytes:
        return _key(self._base.block(number), 0)

    def _last_key(self, number: int) -> bytes:
        return _last_key(self._base.block(number))

    def _begins_in(self, number: int, block: bytes) -> bool:
        """Whether the row that begins that frame is in the block, told by its first field."""
        start = self._key(number)
        return block.startswith(start + b"\t") or b"\n" + start + b"\t" in block


def _key(block: bytes, start: int) -> bytes:
    """The first field of the row that begins there, or of a long one its first bytes."""
    return block[start : start + _KEY_BYTES].split(b"\t", 1)[0].split(b"\n", 1)[0]


def _last_key(block: bytes) -> bytes:
    return _key(block, block.rfind(b"\n", 0, -1) + 1)


class DeltaWriter:
    """Makes the delta of one bundle against ``base``; given its records in order."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._matcher = Matcher(base)

    def skip(self, tag: Tag, whole: bytes) -> None:
        """A record that the reader has already."""
        payload = whole[PREFIX_SIZE:]
        if tag is Tag.MANIFEST:
            self._matcher.meet(Manifest.decode(payload))
        elif tag is Tag.FRAME:
            frame, _ = parse_frame(payload, DEFAULT_LIMITS)
            if self._matcher.same(frame) is None:
                self._matcher.alike(frame.entry, decode_block(frame))

    def record(self, tag: Tag, whole: bytes) -> bytes:
        """The pieces for a record; ``whole`` has its prefix."""
        if tag is not Tag.FRAME:
            self.skip(tag, whole)
            return literal(whole)
        frame, chain = parse_frame(whole[PREFIX_SIZE:], DEFAULT_LIMITS)
        number = self._matcher.same(frame)
        if number is not None:
            return _piece(SAME, _SAME.pack(number, chain))
        block = decode_block(frame)
        first, count = self._matcher.alike(frame.entry, block)
        if count:
            head = _LIKE.pack(first, count, frame.entry, frame.rows, len(block), frame.codec, chain)
            patch = _compress(block, self._base.prefix(first, count))
            if len(head) + len(patch) < len(whole):
                return _piece(LIKE, head + patch)
        return literal(whole)


class DeltaReader:
    """Makes the bundle's bytes of a delta that comes in pieces of any size."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes of the bundle that ``data`` completes, a record or a part of one at a time.

        A short delta can be a long bundle, so it is made as it is asked for. Raises :class:`BadDelta` for what no
        writer makes. A delta against another base gives bytes that the bundle's reader refuses.
        """
        self._buffer += data
        while len(self._buffer) >= _PIECE.size:
            what, length = _PIECE.unpack_from(self._buffer)
            most = LITERAL_BYTES if what == LITERAL else DEFAULT_LIMITS.frame_stored_bytes + _LIKE.size
            if length > most:
                raise BadDelta("A piece of the delta is longer than is allowed.")
            if len(self._buffer) < _PIECE.size + length:
                break
            payload = bytes(self._buffer[_PIECE.size : _PIECE.size + length])
            del self._buffer[: _PIECE.size + length]
            try:
                made = self._read(what, payload)
            except (BundleError, struct.error, zstandard.ZstdError) as error:
                raise BadDelta(f"A piece of the delta does not fit the bundle that it builds on: {error}") from error
            yield made

    def _read(self, what: int, payload: bytes) -> bytes:
        if what == LITERAL:
            return payload
        if what == SAME:
            number, chain = _SAME.unpack(payload)
            return frame_record(self._base.frame(number), chain)
        if what != LIKE:
            raise BadDelta(f"The delta has a piece of the unknown kind {what}.")
        first, count, entry, rows, raw_length, codec, chain = _LIKE.unpack_from(payload)
        if raw_length > DEFAULT_LIMITS.frame_raw_bytes:
            raise BadDelta("A frame of the delta is longer than is allowed.")
        block = _decompress(payload[_LIKE.size :], self._base.prefix(first, count), raw_length)
        frame = encode_frame(entry, rows, block, compress=codec == Codec.ZSTD)
        return frame_record(frame, chain)


def literal(data: bytes) -> bytes:
    """Pieces that hold bytes of the bundle as they are."""
    starts = range(0, len(data), LITERAL_BYTES)
    return b"".join(_piece(LITERAL, data[start : start + LITERAL_BYTES]) for start in starts)


def _piece(what: int, payload: bytes) -> bytes:
    return _PIECE.pack(what, len(payload)) + payload


def _compress(block: bytes, before: bytes) -> bytes:
    size = (len(block) + len(before)).bit_length()
    # With the level's own tables most of a prefix this long would be forgotten before the block begins.
    how = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=max(_TABLE_LOG, min(_WINDOW_LOG, size)),
        hash_log=max(_TABLE_LOG, min(_WINDOW_LOG, size) - _PLACES_LOG),
        min_match=_MIN_MATCH,
    )
    prefix = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=how, dict_data=prefix).compress(block)


def _decompress(patch: bytes, before: bytes, raw_length: int) -> bytes:
    found = zstandard.get_frame_parameters(patch)
    if found.content_size != raw_length or found.window_size > 1 << (_WINDOW_LOG + 3):
        raise BadDelta("A frame of the delta does not say how long it is, or needs too much memory.")
    prefix = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    reader = zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=1 << (_WINDOW_LOG + 3))
    return reader.decompress(patch, max_output_size=raw_length, allow_extra_data=False)
