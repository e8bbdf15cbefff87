"""The reader: takes the bytes of a bundle as they come and gives events. Does no I/O.

A bundle is refused at the first byte that shows what is wrong with it. Whatever the bytes, nothing but a
``ProtocolError`` escapes, and memory stays within one record of its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from protocol.canonical import Value, pack, unpack
from protocol.errors import (
    CutShort,
    FrameDamaged,
    FrameTooLarge,
    Malformed,
    NotABundle,
    OutOfOrder,
    TooLarge,
    TrailingData,
)
from protocol.fields import Fields
from protocol.frames import EncodedFrame, check_data, next_chain, parse_frame, start_chain
from protocol.ledger import Counts, Ledger
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.manifest import Manifest, Section
from protocol.places import Packed, Places
from protocol.records import FIRST_BYTES, PREFIX_SIZE, Tag, check_header, header_record, parse_prefix, record
from protocol.refusal import foreign_device_state
from protocol.seal import Seal, check_totals


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """The manifest has been read and accepted."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class FrameRead:
    """A frame has been read and fits the chain; its data is still packed (``protocol.frames.decode_block``)."""

    frame: EncodedFrame


@dataclass(frozen=True, slots=True)
class SealRead:
    """The seal has been read and fits all frames; its signature is not yet verified (``protocol.seal.verify_seal``)."""

    seal: Seal


Event: TypeAlias = ManifestRead | FrameRead | SealRead


_MARK = (
    *("position", "head", "manifest", "chain"),
    *("current", "frames", "rows", "raw_bytes", "stored_bytes", "entry_rows"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two records up to which a bundle has been read, and all that the reader knows there.

    ``position`` counts bytes from the start of the file, ``head`` those up to the end of the manifest, whose SHA-256
    ``manifest`` is.
    """

    position: int
    head: int
    manifest: bytes
    chain: bytes
    counts: Counts

    def encode(self) -> bytes:
        """The mark as bytes, for :meth:`decode`. It is kept beside a part, and never travels."""
        counts = self.counts
        values: dict[str, Value] = {
            "position": self.position,
            "head": self.head,
            "manifest": self.manifest,
            "chain": self.chain,
            "current": counts.current,
            "frames": counts.frames,
            "rows": counts.rows,
            "raw_bytes": counts.raw_bytes,
            "stored_bytes": counts.stored_bytes,
            "entry_rows": list(counts.entry_rows),
        }
        return pack(values)

    @classmethod
    def decode(cls, data: bytes) -> Mark:
        """The mark that ``encode`` wrote; raises ``Malformed`` for anything else."""
        value = unpack(data, what="mark", error=Malformed, values=DEFAULT_LIMITS.tables + 32, nesting=2)
        fields = Fields(value, _MARK, what="mark", error=Malformed)
        return cls(
            fields.integer("position"),
            fields.integer("head"),
            fields.binary("manifest"),
            fields.binary("chain"),
            Counts(
                current=fields.integer("current"),
                frames=fields.integer("frames"),
                rows=fields.integer("rows"),
                raw_bytes=fields.integer("raw_bytes"),
                stored_bytes=fields.integer("stored_bytes"),
                entry_rows=fields.integers("entry_rows"),
            ),
        )


class BundleReader:
    """Reads one bundle: ``feed`` it all bytes in order, in pieces of any size, then ``close``.

    ``accept`` is called with the manifest before anything after it is read; it refuses by raising. With ``own_node``
    the reader raises ``ForeignDeviceState`` at the first frame of another device's device section: set it for a
    restore, not for storing. After an error the reader raises that error again, whatever it is fed.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        accept: Callable[[Manifest], None] | None = None,
        own_node: str | None = None,
    ) -> None:
        self._limits = limits
        self._accept = accept
        self._own_node = own_node
        self._buffer = bytearray()
        self._need = PREFIX_SIZE
        self._tag: Tag | None = None
        self._expected: tuple[Tag, ...] = (Tag.HEADER,)
        self._ledger: Ledger | None = None
        self._chain = b""
        self._failure: Exception | None = None
        self._position = self._head = 0
        self._places = Places()
        self.manifest: Manifest | None = None
        self.seal: Seal | None = None

    @property
    def places(self) -> Packed | None:
        """Where the frames so far lie in the bundle (:mod:`protocol.places`); None where not all were read here."""
        return self._places.packed()

    def mark(self) -> Mark | None:
        """Where reading could go on later with :meth:`go_on`; None before the manifest or after the seal."""
        if self.manifest is None or self._ledger is None or self.seal is not None or self._failure is not None:
            return None
        return Mark(self._position, self._head, self.manifest.digest(), self._chain, self._ledger.counts())

    def go_on(self, mark: Mark) -> None:
        """Take up reading at ``mark``: what is fed next are the bytes from its position on.

        The reader must have been fed the bundle's first ``mark.head`` bytes and nothing more. Raises ``Malformed``
        where the mark does not belong to this bundle.
        """
        manifest, ledger = self._opened()
        if ledger.frames or self._buffer or self._tag is not None or self.seal is not None:
            raise OutOfOrder("Reading can only go on from a mark right after the manifest.")
        if mark.manifest != manifest.digest() or mark.head != self._position or mark.position < mark.head:
            raise Malformed("The mark belongs to another bundle.")
        ledger.go_on(mark.counts)
        self._chain, self._position = mark.chain, mark.position
        if mark.counts.frames:
            self._places.lose()

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """The events that ``data`` completes, in order. An error hides the events of the same call before it."""
        if self._failure is not None:
            raise self._failure
        events: list[Event] = []
        try:
            self._consume(memoryview(data), events)
        except Exception as error:
            self._failure = error
            self._buffer = bytearray()
            raise
        return events

    def close(self) -> None:
        """Say that there are no more bytes. Raises ``CutShort`` unless the seal has been read."""
        if self._failure is not None:
            raise self._failure
        if self.seal is not None:
            return
        if self._at_start and not FIRST_BYTES.startswith(self._buffer[: len(FIRST_BYTES)]):
            self._failure = NotABundle("This is not a Backroom bundle.")
        elif self.manifest is None:
            self._failure = CutShort("The file ends before its manifest is complete.")
        else:
            self._failure = CutShort(
                f"The bundle ends before its seal, after {self._rows} of {self.manifest.total_rows} rows."
            )
        raise self._failure

    @property
    def _at_start(self) -> bool:
        """Whether the first prefix is not yet there."""
        return self._expected == (Tag.HEADER,) and self._tag is None

    @property
    def _rows(self) -> int:
        return self._ledger.rows if self._ledger is not None else 0

    def _consume(self, data: memoryview, events: list[Event]) -> None:
        position = 0
        while position < len(data):
            if self.seal is not None:
                raise TrailingData(f"There are bytes after the seal ({len(data) - position} or more).")
            taken = min(self._need - len(self._buffer), len(data) - position)
            piece = data[position : position + taken]
            position += taken
            if not self._buffer and taken == self._need:
                self._take(piece, events)
                continue
            self._buffer += piece
            if len(self._buffer) == self._need:
                whole, self._buffer = self._buffer, bytearray()
                self._take(memoryview(whole), events)

    def _take(self, piece: memoryview, events: list[Event]) -> None:
        """A whole prefix or a whole payload."""
        if self._tag is None:
            self._tag, self._need = self._start(piece)
            if self._need:
                return
            piece = piece[:0]
        tag, self._tag, self._need = self._tag, None, PREFIX_SIZE
        self._position += PREFIX_SIZE + len(piece)
        if tag is Tag.HEADER:
            check_header(piece)
            self._expected = (Tag.MANIFEST,)
        elif tag is Tag.MANIFEST:
            events.append(self._read_manifest(bytes(piece)))
            self._expected = (Tag.FRAME, Tag.SEAL)
            self._head = self._position
        elif tag is Tag.FRAME:
            events.append(self._read_frame(piece))
        else:
            events.append(self._read_seal(piece))

    def _start(self, piece: memoryview) -> tuple[Tag, int]:
        """Tag and length of the record that starts, both held against what may come now."""
        at_start = self._at_start
        try:
            tag, length = parse_prefix(piece)
        except Malformed:
            if at_start:
                raise NotABundle("This is not a Backroom bundle.") from None
            raise
        if tag not in self._expected:
            if at_start:
                raise NotABundle("This is not a Backroom bundle: it does not start with a header.")
            expected = " or ".join(wanted.name.lower() for wanted in self._expected)
            raise OutOfOrder(f"The bundle has a {tag.name.lower()} where its {expected} should be.")
        if length > self._most(tag):
            error = NotABundle if at_start else FrameTooLarge if tag is Tag.FRAME else TooLarge
            raise error(f"The {tag.name.lower()} says it is {length} bytes long; {self._most(tag)} are allowed.")
        return tag, length

    def _most(self, tag: Tag) -> int:
        limits = self._limits
        return {
            Tag.HEADER: limits.header_bytes,
            Tag.MANIFEST: limits.manifest_bytes,
            Tag.FRAME: limits.frame_stored_bytes + limits.frame_bytes_over_data,
            Tag.SEAL: limits.seal_bytes,
        }[tag]

    def _read_manifest(self, payload: bytes) -> ManifestRead:
        manifest = Manifest.decode(payload, self._limits)
        if self._accept is not None:
            self._accept(manifest)
        self.manifest = manifest
        self._ledger = Ledger(manifest)
        self._chain = start_chain(header_record(), record(Tag.MANIFEST, payload))
        return ManifestRead(manifest)

    def _read_frame(self, payload: memoryview) -> FrameRead:
        manifest, ledger = self._opened()
        frame, stated = parse_frame(payload, self._limits)
        self._chain = next_chain(self._chain, frame.digest)
        if stated != self._chain:
            raise FrameDamaged(f"Frame {ledger.frames + 1} of the bundle is not as it was written.")
        check_data(frame, self._limits)
        ledger.add(frame)
        self._places.add(frame, self._position - len(payload), len(payload))
        foreign = self._own_node is not None and self._own_node != manifest.source_node
        if foreign and manifest.tables[frame.entry].section is Section.DEVICE:
            raise foreign_device_state(manifest)
        return FrameRead(frame)

    def _read_seal(self, payload: memoryview) -> SealRead:
        _, ledger = self._opened()
        seal = Seal.decode(payload, self._limits)
        ledger.finish()
        check_totals(seal, ledger, self._chain)
        self.seal = seal
        return SealRead(seal)

    def _opened(self) -> tuple[Manifest, Ledger]:
        if self.manifest is None or self._ledger is None:
            raise OutOfOrder("The bundle has a frame before its manifest.")
        return self.manifest, self._ledger
