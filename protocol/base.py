"""An earlier bundle on which a later one builds: its frames where they lie, and which of them hold the rows of another
bundle's (PEER.md, "Deltas"). Does no I/O of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import sha256

from protocol.errors import BadDelta
from protocol.frames import EncodedFrame, decode_block, parse_frame
from protocol.limits import DEFAULT_LIMITS
from protocol.manifest import Manifest
from protocol.places import MOST_FRAMES, Packed, Place, unpack_places
from protocol.records import PREFIX_SIZE, Tag, parse_prefix

PREFIX_BYTES = 12 << 20
"""So many bytes of rows, and so many frames, of the earlier bundle may be used for one frame of another."""
PREFIX_FRAMES = 64
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


class Base:
    """An earlier bundle, read where it lies. Making it reads the file once, or where the ``places`` of its frames are
    known (:mod:`protocol.places`) no more than its manifest: whether a frame is still what they say shows when it is
    read. Raises ``ProtocolError``.
    """

    def __init__(self, read: Read, places: Packed | None = None) -> None:
        self._read = read
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._places: list[Place] = [] if places is None else list(unpack_places(places))
        self.manifest: Manifest | None = None
        for position, tag, whole in records(read):
            payload = whole[PREFIX_SIZE:]
            if tag is Tag.MANIFEST:
                self.manifest = Manifest.decode(payload)
                if places is not None:
                    break
            elif tag is Tag.FRAME:
                if len(self._places) == MOST_FRAMES:
                    raise BadDelta("The earlier bundle has too many frames to build on.")
                frame, _ = parse_frame(payload, DEFAULT_LIMITS)
                start = position + PREFIX_SIZE
                place = Place(frame.entry, frame.rows, frame.raw_length, start, len(payload), frame.digest)
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
        if not 0 < count <= PREFIX_FRAMES or first + count > len(self._places):
            raise BadDelta("The delta uses frames that its base does not have, or too many.")
        if sum(place.raw_length for place in self._places[first : first + count]) > PREFIX_BYTES:
            raise BadDelta("The delta uses more rows of its base at a time than is allowed.")
        return b"".join(self.block(number) for number in range(first, first + count))

    def same(self, digest: bytes) -> int | None:
        """The number of the frame with this digest; None where the base has none."""
        return self._numbers.get(digest)

    def range(self, entry: int) -> tuple[int, int]:
        """The numbers of the first frame of that entry and of the one after its last."""
        start = bisect_left(self._places, entry, key=lambda place: place.entry)
        return start, bisect_left(self._places, entry + 1, key=lambda place: place.entry)

    def rows(self, number: int) -> int:
        """How many rows that frame has."""
        return self._places[number].rows

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

    def same(self, entry: int, digest: bytes) -> int | None:
        """The number of the base's frame that is the one of that entry with this digest; None where there is none."""
        number = self._base.same(digest)
        if number is not None:
            self._start(entry)
            self._at = number
        return number

    def near(self, entry: int) -> range:
        """The numbers of the next frames of the base that may hold rows of that entry."""
        self._start(entry)
        return range(self._at, min(self._at + _AHEAD, self._end))

    def all(self, entry: int) -> range:
        """The numbers of all frames of the base that may hold rows of that entry."""
        known = self._entries.get(entry)
        return range(*self._base.range(known)) if known is not None else range(0)

    def stands(self, entry: int, first: int, count: int) -> bool:
        """Whether these frames of the base are of that entry; the next frame is looked for from there on."""
        self._start(entry)
        frames = self.all(entry)
        if not frames.start <= first < first + count <= frames.stop:
            return False
        self._at = first + count - 1
        return True

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
            if size > PREFIX_BYTES or last - number >= PREFIX_FRAMES:
                first = number + 1
                break
        return first, last + 1 - first

    def _start(self, entry: int) -> None:
        """Stand at the first frame of the base that is of that entry, where it is not there already."""
        if entry != self._entry:
            self._entry = entry
            frames = self.all(entry)
            self._at, self._end = frames.start, frames.stop

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
