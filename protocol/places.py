"""Where the frames of a bundle lie in its file, and what tells each from others: found out while the bundle is written
or read, for whoever wants single frames of it later. Never travels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from protocol.errors import Malformed
from protocol.frames import DIGEST_SIZE, EncodedFrame

MOST_FRAMES = 1 << 17
"""Of a bundle with more frames than this (a megabyte each, as a rule) no places are kept."""
Packed: TypeAlias = bytes
"""The places of all frames of a bundle, packed."""
_PLACE = struct.Struct(f">IIIQI{DIGEST_SIZE}s")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame is: ``length`` bytes from ``position`` on are the payload of its record, which :func:`parse_frame`
    reads. The other fields are the frame's."""

    entry: int
    rows: int
    raw_length: int
    position: int
    length: int
    digest: bytes


class Places:
    """The places of the frames of one bundle, noted in order."""

    def __init__(self) -> None:
        self._packed: bytearray | None = bytearray()

    def add(self, frame: EncodedFrame, position: int, length: int) -> None:
        """The next frame, and where the payload of its record is."""
        if self._packed is not None:
            if len(self._packed) == MOST_FRAMES * _PLACE.size:
                self.lose()
                return
            self._packed += _PLACE.pack(frame.entry, frame.rows, frame.raw_length, position, length, frame.digest)

    def lose(self) -> None:
        """Some frame is not to be noted: from now on there are no places."""
        self._packed = None

    def packed(self) -> Packed | None:
        """All of them, for :func:`unpack_places`; None where not all frames were noted."""
        return bytes(self._packed) if self._packed is not None else None


def unpack_places(packed: Packed) -> Iterator[Place]:
    """What :meth:`Places.packed` gave. Raises ``Malformed`` for anything else."""
    if len(packed) % _PLACE.size:
        raise Malformed("The places of a bundle's frames are cut short.")
    return (Place(*fields) for fields in _PLACE.iter_unpack(packed))
