"""Deltas: a bundle told by what it has in common with an earlier one (PEER.md, "Deltas"). Does no I/O of its own.

Both sides hold the earlier bundle, the *base*. A frame that is in the base is named; one that has most rows of some of
its frames travels as edits of these, or as a zstandard frame with those as its prefix; of one that leaves rows out of a
block of the base it is told which. The reader gets the very bytes of the new bundle back, so its chain and seal say
whether that worked: a delta is never trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import zstandard

from protocol.base import PREFIX_BYTES, Base, Matcher
from protocol.cuts import covers, pack_cuts, unpack_cuts
from protocol.edits import Edits, find_edits
from protocol.errors import BadDelta, BundleError
from protocol.frames import (
    PACKING,
    Codec,
    EncodedFrame,
    as_frame,
    cut_block,
    decode_block,
    encode_frame,
    frame_record,
    packed_block,
    parse_frame,
)
from protocol.limits import DEFAULT_LIMITS
from protocol.manifest import Manifest
from protocol.records import PREFIX_SIZE, Tag

TELLING = f"{PACKING}, edits, cuts"
"""How this library tells deltas: sides with the same text understand each other's."""
LITERAL, SAME, LIKE, EDITED, CUT = range(5)
LITERAL_BYTES = 1 << 20
_PIECE = struct.Struct(">BI")
_SAME = struct.Struct(">I32s")
_LIKE = struct.Struct(">IHIIIB32s")
_CUT = struct.Struct(">III32s")
_STRETCH = struct.Struct(">II")
_COUNT = struct.Struct(">I")
_NEW = (1 << 32) - 1
_LEVEL = 1
_WINDOW_LOG = 24
_TABLE_LOG = 15
# What a changed block has in common with its prefix are whole rows: long matches, for which few places of the prefix
# need to be remembered.
_MIN_MATCH = 7
_PLACES_LOG = 4
_MOST_EDITED = 8
"""New rows may be up to this part of a frame that is told as edits."""
_MOST_STRETCHES = 1 << 16
_JOINED_BYTES = 1 << 20
"""Short pieces are given on together: each has its price on the way to the disk."""
_MOST_USED = 16
"""So many bytes of the base may be used for each byte that is made, beside all of the base twice."""
_NEWS_BYTES, _NEWS_FRAME_BYTES = 16 << 20, 256
assert PREFIX_BYTES < 1 << _WINDOW_LOG


@dataclass(slots=True)
class News:
    """What frames of a bundle have that the base, whose rows have the digest ``content`` (:attr:`Base.content`), lacks:
    by their digest the first frame of the base that they were told by, how many, and the rows that these do not have.
    Of edited and cut frames alone, and no more than is cheap to hold.
    """

    content: str
    frames: dict[bytes, tuple[int, int, bytes]] = field(default_factory=dict)
    size: int = 0

    def add(self, digest: bytes, first: int, count: int, rows: bytes) -> None:
        """Take it, if there is room."""
        size = len(rows) + _NEWS_FRAME_BYTES
        if self.size + size <= _NEWS_BYTES:
            self.frames[digest] = first, count, rows
            self.size += size


class DeltaWriter:
    """Makes the delta of one bundle against ``base``; given its records in order."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._matcher = Matcher(base)
        self._packed: tuple[int, dict[bytes, int]] = -1, {}

    def skip(self, tag: Tag, whole: bytes) -> None:
        """A record that the reader has already."""
        if tag is Tag.MANIFEST:
            self._matcher.meet(Manifest.decode(whole[PREFIX_SIZE:]))
        elif tag is Tag.FRAME:
            frame, _ = parse_frame(memoryview(whole)[PREFIX_SIZE:], DEFAULT_LIMITS)
            if self._matcher.same(frame.entry, frame.digest) is None and self._cut_from(frame) is None:
                self._matcher.alike(frame.entry, decode_block(frame))

    def record(self, tag: Tag, whole: bytes) -> bytes:
        """The pieces for a record; ``whole`` has its prefix."""
        if tag is not Tag.FRAME:
            self.skip(tag, whole)
            return literal(whole)
        frame, chain = parse_frame(memoryview(whole)[PREFIX_SIZE:], DEFAULT_LIMITS)
        number = self._matcher.same(frame.entry, frame.digest)
        if number is not None:
            return _piece(SAME, _SAME.pack(number, chain))
        if frame.codec is Codec.CUT:
            number = self._cut_from(frame)
            if number is None:
                return literal(whole)
            cuts, _ = packed_block(frame)
            return _piece(CUT, _CUT.pack(number, frame.entry, frame.rows, chain) + pack_cuts(cuts))
        block = decode_block(frame)
        first, count = self._matcher.alike(frame.entry, block)
        if count:
            head = _LIKE.pack(first, count, frame.entry, frame.rows, len(block), frame.codec, chain)
            before = self._base.prefix(first, count)
            edits = find_edits(block, before, len(block) // _MOST_EDITED)
            if edits is not None and len(edits.stretches) > _MOST_STRETCHES:
                edits = None
            what, told = (EDITED, _pack(edits)) if edits is not None else (LIKE, _compress(block, before))
            if len(head) + len(told) < len(whole):
                return _piece(what, head + told)
        return literal(whole)

    def _cut_from(self, frame: EncodedFrame) -> int | None:
        """The next frame of the base that has the same packed block, of which this one leaves rows out."""
        if frame.codec is not Codec.CUT:
            return None
        digest = _packed_digest(frame)
        for number in self._matcher.near(frame.entry):
            if _packed_digest(self._base.frame(number)) == digest:
                self._matcher.stands(frame.entry, number, 1)
                return number
        # Frames in between are gone: all of the entry's are looked at, once.
        if self._packed[0] != frame.entry:
            numbers = self._matcher.all(frame.entry)
            self._packed = frame.entry, {_packed_digest(self._base.frame(number)): number for number in numbers}
        found = self._packed[1].get(digest)
        if found is not None:
            self._matcher.stands(frame.entry, found, 1)
        return found


class DeltaReader:
    """Makes the bundle's bytes of a delta that comes in pieces of any size; ``news`` is told what it comes by."""

    def __init__(self, base: Base, news: News | None = None) -> None:
        self._base = base
        self._news = news
        self._buffer = bytearray()
        self._may_use = PREFIX_BYTES + 2 * sum(base.raw_length(number) for number in range(base.frames))

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes of the bundle that ``data`` completes, a record, a part of one or some small ones at a time.

        A short delta can be a long bundle, so it is made as it is asked for. Raises :class:`BadDelta` for what no
        writer makes. A delta against another base gives bytes that the bundle's reader refuses.
        """
        self._buffer += data
        joined = bytearray()
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
            if not joined and len(made) >= _JOINED_BYTES:
                yield made
                continue
            joined += made
            if len(joined) >= _JOINED_BYTES:
                yield bytes(joined)
                joined.clear()
        if joined:
            yield bytes(joined)

    def _read(self, what: int, payload: bytes) -> bytes:
        if what == LITERAL:
            if not payload:
                raise BadDelta("A piece of the delta tells nothing.")
            return payload
        if what == SAME:
            number, chain = _SAME.unpack(payload)
            return frame_record(self._base.frame(number), chain)
        if what == CUT:
            return self._read_cut(payload)
        if what not in (LIKE, EDITED):
            raise BadDelta(f"The delta has a piece of the unknown kind {what}.")
        first, count, entry, rows, raw_length, codec, chain = _LIKE.unpack_from(payload)
        if raw_length > DEFAULT_LIMITS.frame_raw_bytes:
            raise BadDelta("A frame of the delta is longer than is allowed.")
        before, told = self._base.prefix(first, count), payload[_LIKE.size :]
        self._may_use += _MOST_USED * raw_length - len(before)
        if self._may_use < 0:
            raise BadDelta("The delta uses far more of its base than it makes of it.")
        edits = _unpack(told, raw_length) if what == EDITED else None
        if edits is not None and not edits.fits(before):
            raise BadDelta("The edits of a frame cut rows apart, or use rows that its base does not have.")
        block = edits.apply(before) if edits is not None else _decompress(told, before, raw_length)
        frame = encode_frame(entry, rows, block, compress=codec == Codec.ZSTD)
        if edits is not None and self._news is not None:
            self._news.add(frame.digest, first, count, edits.rows)
        return frame_record(frame, chain)

    def _read_cut(self, payload: bytes) -> bytes:
        number, entry, rows, chain = _CUT.unpack_from(payload)
        cuts, end = unpack_cuts(payload[_CUT.size :])
        before = self._base.frame(number)
        if before.codec is Codec.NONE or len(payload) != _CUT.size + end:
            raise BadDelta("The delta leaves rows out of a frame that is not packed, or does not say which.")
        frame = as_frame(entry, cut_block(before, cuts, rows))
        decode_block(frame)  # who is told of no news unpacks it no more
        if self._news is not None and covers(cuts, packed_block(before)[0]):
            self._news.add(frame.digest, number, 1, b"")
        return frame_record(frame, chain)


def _packed_digest(frame: EncodedFrame) -> bytes:
    """What tells a frame's packed block from others, whatever is left out of it; empty where it is not packed."""
    return sha256(packed_block(frame)[1]).digest() if frame.codec is not Codec.NONE else b""


def literal(data: bytes) -> bytes:
    """Pieces that hold bytes of the bundle as they are."""
    starts = range(0, len(data), LITERAL_BYTES)
    return b"".join(_piece(LITERAL, data[start : start + LITERAL_BYTES]) for start in starts)


def _piece(what: int, payload: bytes) -> bytes:
    return _PIECE.pack(what, len(payload)) + payload


def _pack(edits: Edits) -> bytes:
    stretches = (_STRETCH.pack(_NEW if start is None else start, length) for start, length in edits.stretches)
    whole = b"".join((_COUNT.pack(len(edits.stretches)), *stretches, edits.rows))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(whole)


def _unpack(told: bytes, raw_length: int) -> Edits:
    """The edits of a text of that many bytes."""
    size = zstandard.get_frame_parameters(told).content_size
    # Each row is a stretch of its own, if it comes to the worst; but no more memory than a frame itself may take.
    most = _COUNT.size + raw_length * (1 + _STRETCH.size)
    if not 0 < size <= min(most, DEFAULT_LIMITS.frame_raw_bytes):
        raise BadDelta("The edits of a frame do not say how long they are, or are too long.")
    whole = zstandard.ZstdDecompressor().decompress(told, max_output_size=size, allow_extra_data=False)
    (count,) = _COUNT.unpack_from(whole)
    if count > _MOST_STRETCHES:
        raise BadDelta("The edits of a frame are too many.")
    end = _COUNT.size + count * _STRETCH.size
    stretches = tuple(
        (None if start == _NEW else start, length) for start, length in _STRETCH.iter_unpack(whole[_COUNT.size : end])
    )
    if len(stretches) != count or sum(length for _, length in stretches) != raw_length:
        raise BadDelta("The edits of a frame do not give what they say.")
    return Edits(stretches, whole[end:])


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
