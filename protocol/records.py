"""Records, the outermost layer of a bundle: ``[tag, payload]`` with a prefix of seven bytes (FORMAT.md, "Records")."""

from __future__ import annotations

import struct
from enum import IntEnum

from protocol.canonical import pack, unpack
from protocol.errors import Malformed, NotABundle, UnknownVersion
from protocol.limits import BUNDLE_VERSION

MAGIC = "backroom-bundle"
PREFIX_SIZE = 7
_PREFIX = struct.Struct(">BBBI")
_ARRAY_OF_TWO = 0x92
_BIN32 = 0xC6
FIRST_BYTES = bytes((_ARRAY_OF_TWO, 0, _BIN32, 0, 0, 0))
"""With what a bundle of any version starts: its header is shorter than 256 bytes."""


class Tag(IntEnum):
    """What a record is."""

    HEADER = 0
    MANIFEST = 1
    FRAME = 2
    SEAL = 3


def prefix(tag: Tag, length: int) -> bytes:
    """The seven bytes before a payload of ``length`` bytes."""
    return _PREFIX.pack(_ARRAY_OF_TWO, tag, _BIN32, length)


def record(tag: Tag, payload: bytes) -> bytes:
    """A whole record."""
    return prefix(tag, len(payload)) + payload


def parse_prefix(data: bytes | bytearray | memoryview) -> tuple[Tag, int]:
    """Tag and payload length of the record that starts with these seven bytes; raises ``Malformed``."""
    array, tag, binary, length = _PREFIX.unpack(data)
    if array != _ARRAY_OF_TWO or binary != _BIN32 or tag > Tag.SEAL:
        raise Malformed(f"The bundle is damaged: {bytes(data).hex(' ')} does not start a record.")
    return Tag(tag), length


def header_record() -> bytes:
    """The first record of every bundle."""
    return record(Tag.HEADER, pack([MAGIC, BUNDLE_VERSION]))


def check_header(payload: bytes | memoryview) -> None:
    """Raise ``NotABundle`` or ``UnknownVersion`` unless ``payload`` is the header of a bundle of our version.

    Later versions keep the first two values, so that every reader can tell an unknown version from an unknown file.
    """
    value = unpack(payload, what="header", error=NotABundle, values=16, nesting=1)
    if not isinstance(value, list) or len(value) < 2 or value[0] != MAGIC or type(value[1]) is not int:
        raise NotABundle("This is not a Backroom bundle.")
    if value[1] != BUNDLE_VERSION:
        raise UnknownVersion(f"The bundle has format version {value[1]}; this device reads version {BUNDLE_VERSION}.")
    if len(value) != 2:
        raise Malformed("The header of the bundle holds more than its version has.")
