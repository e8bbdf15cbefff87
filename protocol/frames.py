"""Frames: blocks of whole rows in PostgreSQL's COPY text, compressed and hashed one by one (FORMAT.md, "Frames").

``encode_frame`` and ``decode_block`` are pure and hold no shared state: run them in threads. Only the chain, which is
64 bytes of hashing a frame, has to be done in order.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import zstandard

from protocol.canonical import Value, pack, unpack
from protocol.cuts import Cut, apply_cuts, cut_bytes, pack_cuts, unpack_cuts
from protocol.errors import DecompressionBomb, FrameDamaged, FrameTooLarge, Malformed, WrongRowCount
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.records import Tag, prefix

CHAIN_DOMAIN = b"backroom-bundle/1 chain\0"
FRAME_DOMAIN = b"backroom-bundle/1 frame\0"
DIGEST_SIZE = 32
_FIELDS = struct.Struct(">IIIB")
# Level 1 with a larger table: as quick, and rows become an eighth smaller.
_LEVEL, _HASH_LOG = 1, 15
_COMPRESSION = zstandard.ZstdCompressionParameters(compression_level=_LEVEL, hash_log=_HASH_LOG)
PACKING = f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {_LEVEL} hash_log {_HASH_LOG}"
"""How this library packs frames: where it is the same text, the same rows become the same bytes."""


class Codec(IntEnum):
    """How a frame's data is stored."""

    NONE = 0
    ZSTD = 1
    CUT = 2


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """A block of rows as it is stored, whichever entry it will be of."""

    rows: int
    raw_length: int
    codec: Codec
    data: bytes


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A block of rows as it is stored: ``data`` holds ``rows`` rows of entry ``entry`` of the manifest.

    ``raw_length`` is the block's length in bytes once unpacked, ``digest`` the SHA-256 over all other fields.
    """

    entry: int
    rows: int
    raw_length: int
    codec: Codec
    data: bytes
    digest: bytes

    def load(self) -> EncodedFrame:
        """Itself: its data is here."""
        return self


class _Packer(threading.local):
    """A compressor for each thread: making one for each frame costs a tenth of the packing."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(compression_params=_COMPRESSION)


_packer = _Packer()


def encode_frame(
    entry: int, rows: int | None, block: bytes, *, compress: bool, limits: Limits = DEFAULT_LIMITS
) -> EncodedFrame:
    """``block`` (COPY text of ``rows`` whole rows, each ending in a newline) as a frame of entry ``entry``.

    ``rows`` None is as many as there are. Data that does not shrink is stored as it is. Raises ``WrongRowCount`` if
    ``block`` does not hold ``rows`` rows, ``FrameTooLarge`` if no reader would take it.
    """
    return as_frame(entry, pack_block(block, compress=compress, rows=rows, limits=limits))


def pack_block(
    block: bytes, *, compress: bool, rows: int | None = None, limits: Limits = DEFAULT_LIMITS
) -> PackedBlock:
    """``block`` as ``encode_frame`` stores it, with the same errors: all of its work but the digest."""
    if len(block) > limits.frame_raw_bytes:
        raise FrameTooLarge(f"A block of {rows} rows is {len(block)} bytes long; {limits.frame_raw_bytes} are allowed.")
    rows = _whole_rows(block, rows)
    if not 0 < rows <= limits.frame_rows:
        raise WrongRowCount(f"A frame holds 1 to {limits.frame_rows} rows, not {rows}.")
    if compress:
        packed = _packer.compressor.compress(block)
        if len(packed) < len(block):
            # A copy, since the library's own bytes hold on to as much memory as the block could have needed.
            return PackedBlock(rows, len(block), Codec.ZSTD, bytes(memoryview(packed)))
    return PackedBlock(rows, len(block), Codec.NONE, block)


def as_frame(entry: int, packed: PackedBlock) -> EncodedFrame:
    """The block as a frame of entry ``entry``."""
    digest = frame_digest(entry, packed.rows, packed.raw_length, packed.codec, packed.data)
    return EncodedFrame(entry, packed.rows, packed.raw_length, packed.codec, packed.data, digest)


def cut_block(frame: EncodedFrame, cuts: Sequence[Cut], rows: int) -> PackedBlock:
    """The block that the data of a packed frame holds without ``cuts``, of which ``rows`` rows are left.

    The cuts are of all of that block, those that the frame leaves out already included, and in order.
    """
    _, packed = packed_block(frame)
    whole = zstandard.get_frame_parameters(packed).content_size
    return PackedBlock(rows, whole - cut_bytes(cuts), Codec.CUT, b"".join((pack_cuts(cuts), packed)))


def packed_block(frame: EncodedFrame) -> tuple[tuple[Cut, ...], bytes]:
    """What a frame leaves out of the block in its data, and that block as it is packed. Raises ``Malformed``."""
    if frame.codec is not Codec.CUT:
        return (), frame.data
    cuts, end = unpack_cuts(frame.data)
    return cuts, frame.data[end:]


def whole_block(frame: EncodedFrame, limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, tuple[Cut, ...]]:
    """The block that the data of ``frame`` holds, and what the frame leaves out of it. Never takes more memory than the
    limits allow. Raises what :func:`decode_block` does.
    """
    check_data(frame, limits)
    if frame.codec is Codec.NONE:
        return frame.data, ()
    cuts, packed = packed_block(frame)
    try:
        block = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameDamaged(f"The rows of a frame cannot be unpacked: {error}.") from None
    return block, cuts


def decode_block(frame: EncodedFrame, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The rows of ``frame`` as COPY text, of exactly the declared length and number of rows.

    Never takes more memory than the declared length and the limits allow. Raises ``FrameTooLarge``,
    ``DecompressionBomb``, ``FrameDamaged`` or ``WrongRowCount``.
    """
    block, cuts = whole_block(frame, limits)
    if cuts:
        block = apply_cuts(block, cuts)
    if len(block) != frame.raw_length:
        raise DecompressionBomb(f"A frame says {frame.raw_length} bytes but unpacks to {len(block)}.")
    _whole_rows(block, frame.rows)
    return block


def frame_digest(entry: int, rows: int, raw_length: int, codec: Codec, data: bytes) -> bytes:
    """SHA-256 over a frame's fields and data; releases the interpreter lock for the data."""
    digest = hashlib.sha256(FRAME_DOMAIN + _FIELDS.pack(entry, rows, raw_length, codec))
    digest.update(data)
    return digest.digest()


def start_chain(header_record: bytes, manifest_record: bytes) -> bytes:
    """The chain's value before the first frame."""
    return hashlib.sha256(CHAIN_DOMAIN + header_record + manifest_record).digest()


def next_chain(chain: bytes, digest: bytes) -> bytes:
    """The chain's value after the frame with this digest."""
    return hashlib.sha256(chain + digest).digest()


def frame_record(frame: EncodedFrame, chain: bytes) -> bytes:
    """The record of ``frame``; ``chain`` is the chain's value after it."""
    fields: list[Value] = [frame.entry, frame.rows, frame.raw_length, int(frame.codec), chain]
    # An array of six, its last value not copied twice: the data is most of the record.
    head = b"\x96" + b"".join(pack(field) for field in fields) + _bin_header(len(frame.data))
    return b"".join((prefix(Tag.FRAME, len(head) + len(frame.data)), head, frame.data))


def parse_frame(payload: bytes | memoryview, limits: Limits) -> tuple[EncodedFrame, bytes]:
    """The frame in ``payload`` and the chain's value that it states; the data is still packed.

    Raises ``Malformed`` for what no writer makes and ``FrameTooLarge`` for a raw length over the limit.
    """
    value = unpack(payload, what="frame", error=Malformed, values=7, nesting=1)
    if not isinstance(value, list) or len(value) != 6:
        raise Malformed("A frame of the bundle is not an array of six values.")
    entry, rows, raw_length = (_number(number, limits) for number in value[:3])
    codec, chain, data = value[3:]
    if type(codec) is not int or codec not in set(Codec):
        raise Malformed("A frame of the bundle is stored in a way that this version does not know.")
    if not isinstance(chain, bytes) or len(chain) != DIGEST_SIZE or not isinstance(data, bytes):
        raise Malformed("A frame of the bundle does not have a digest and data.")
    if rows == 0:
        raise Malformed("A frame of the bundle has no rows.")
    digest = frame_digest(entry, rows, raw_length, Codec(codec), data)
    return EncodedFrame(entry, rows, raw_length, Codec(codec), data, digest), chain


def check_data(frame: EncodedFrame, limits: Limits) -> None:
    """Refuse a frame whose data could unpack to other than its raw length or take too much memory.

    Looks at the first bytes of the data alone, so that a bomb is refused when it arrives.
    """
    cuts, packed = packed_block(frame)
    length = frame.raw_length + cut_bytes(cuts)
    if max(length, len(frame.data)) > limits.frame_raw_bytes:
        raise FrameTooLarge(f"A frame unpacks to {length} bytes; {limits.frame_raw_bytes} are allowed.")
    if frame.codec is Codec.NONE:
        if len(frame.data) != frame.raw_length:
            raise Malformed(f"A frame says {frame.raw_length} bytes but holds {len(frame.data)}.")
        return
    if cuts and (length > 2 * frame.raw_length or sum(cuts[-1]) > length):
        raise Malformed("A frame leaves out more rows than it has, or other ones than its block has.")
    if len(packed) >= length:
        raise Malformed("A frame is compressed although that does not make it shorter.")
    try:
        found = zstandard.get_frame_parameters(packed)
    except zstandard.ZstdError:
        raise FrameDamaged("The data of a frame is not zstandard.") from None
    if found.content_size != length:
        raise DecompressionBomb(f"A frame says {length} bytes, but its data does not.")
    if found.window_size > max(limits.window_bytes, length) or found.dict_id:
        raise DecompressionBomb("A frame needs more memory or another dictionary to unpack than is allowed.")


def _number(value: object, limits: Limits) -> int:
    if type(value) is not int or value > limits.frame_rows:
        raise Malformed("A frame of the bundle has a field that is not a number of 32 bits.")
    return value


def _whole_rows(block: bytes, rows: int | None) -> int:
    found = block.count(b"\n")
    if rows not in {None, found} or not block.endswith(b"\n"):
        raise WrongRowCount(f"A block should hold {rows or 'only'} whole rows but holds {found} line ends.")
    return found


def _bin_header(length: int) -> bytes:
    if length < 1 << 8:
        return b"\xc4" + length.to_bytes(1, "big")
    if length < 1 << 16:
        return b"\xc5" + length.to_bytes(2, "big")
    return b"\xc6" + length.to_bytes(4, "big")
