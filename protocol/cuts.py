"""Cuts: rows that are left out of a packed block without packing it again (FORMAT.md, "Frames"). Pure."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from protocol.errors import FrameDamaged, Malformed

Cut: TypeAlias = tuple[int, int]
"""A stretch of a block, as start and length in bytes: one or more whole rows that do not count."""
MOST_CUTS = 1 << 16
_COUNT = struct.Struct(">I")
_CUT = struct.Struct(">II")


def pack_cuts(cuts: Sequence[Cut]) -> bytes:
    """The bytes that stand before the packed block."""
    return b"".join((_COUNT.pack(len(cuts)), *(_CUT.pack(*cut) for cut in cuts)))


def unpack_cuts(data: bytes) -> tuple[tuple[Cut, ...], int]:
    """The cuts with which ``data`` begins, and where what comes after them begins.

    Raises ``Malformed`` unless there are some, in order, with rows between each and the next.
    """
    if len(data) < _COUNT.size:
        raise Malformed("A frame without some rows does not say which.")
    (count,) = _COUNT.unpack_from(data)
    end = _COUNT.size + count * _CUT.size
    if not 0 < count <= MOST_CUTS or len(data) < end:
        raise Malformed("A frame without some rows does not say which, or names too many stretches.")
    cuts = tuple(_CUT.iter_unpack(data[_COUNT.size : end]))
    reached = -1
    for start, length in cuts:
        if start <= reached or not length:
            raise Malformed("The rows that a frame leaves out are not told in order, each once.")
        reached = start + length
    return cuts, end


def cut_bytes(cuts: Iterable[Cut]) -> int:
    """How many bytes are left out."""
    return sum(length for _, length in cuts)


def apply_cuts(block: bytes, cuts: Sequence[Cut]) -> bytes:
    """The block without these stretches. Raises ``FrameDamaged`` unless each is whole rows of it."""
    parts, at = [], 0
    for start, length in cuts:
        end = start + length
        begins = start == 0 or block[start - 1 : start] == b"\n"
        if not (end <= len(block) and begins and block[end - 1 : end] == b"\n"):
            raise FrameDamaged("What a frame leaves out is not whole rows of its block.")
        parts.append(block[at:start])
        at = end
    return b"".join((*parts, block[at:]))


def join_cuts(cuts: Iterable[Cut]) -> tuple[Cut, ...]:
    """The same stretches in order, those that touch as one."""
    joined: list[Cut] = []
    for start, length in sorted(cuts):
        if joined and start <= sum(joined[-1]):
            first, so_far = joined[-1]
            joined[-1] = first, max(so_far, start + length - first)
        else:
            joined.append((start, length))
    return tuple(joined)


def is_cut(cuts: Sequence[Cut], at: int, length: int = 1) -> bool:
    """Whether so many bytes from there on are in one of these stretches, which are as :func:`join_cuts` gives them."""
    place = bisect_right(cuts, at, key=lambda cut: cut[0]) - 1
    return place >= 0 and at + length <= sum(cuts[place])


def covers(cuts: Sequence[Cut], others: Iterable[Cut]) -> bool:
    """Whether all of these other stretches are left out by ``cuts``, which are as :func:`join_cuts` gives them."""
    return all(is_cut(cuts, start, length) for start, length in others)
