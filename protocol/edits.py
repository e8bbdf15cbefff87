"""Edits: a block of rows told as parts of an earlier text and the rows in between (PEER.md, "Deltas"). Pure.

Made for rows that stand in the same order in both, of which few differ: what is equal is found by comparing long
stretches of bytes at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, count
from operator import add

_STRIDE, _LONGEST_STRIDE = 1 << 12, 1 << 17
_NEAR = 1 << 16
"""How many bytes of rows that are gone may lie between two that stayed."""
_FEW, _FEW_BYTES = 64, 1 << 13
"""From so many stretches, or bytes of new rows, on it is cheaper to look at each row."""


@dataclass(frozen=True, slots=True)
class Edits:
    """A text as stretches, in order: ``length`` bytes from ``start`` on of the earlier text, or, where ``start`` is
    None, the next so many of ``rows``."""

    stretches: tuple[tuple[int | None, int], ...]
    rows: bytes

    def fits(self, before: bytes) -> bool:
        """Whether each stretch is whole rows: then ``rows`` are all rows of the text that ``before`` lacks."""
        at = 0
        for start, length in self.stretches:
            where, text = (at, self.rows) if start is None else (start, before)
            if start is None:
                at += length
            end = where + length
            begins = where == 0 or text[where - 1 : where] == b"\n"
            if not (length > 0 and end <= len(text) and begins and text[end - 1 : end] == b"\n"):
                return False
        return at == len(self.rows)

    def apply(self, before: bytes) -> bytes:
        """The text, for edits that fit."""
        parts, at = [], 0
        for start, length in self.stretches:
            if start is None:
                parts.append(self.rows[at : at + length])
                at += length
            else:
                parts.append(before[start : start + length])
        return b"".join(parts)


def find_edits(block: bytes, before: bytes, most: int) -> Edits | None:
    """How ``block`` comes of ``before``, both whole rows; None where more than ``most`` bytes of rows are new."""
    found = _Found(min(most, _FEW_BYTES))
    here = there = 0
    while here < len(block):
        if len(found.stretches) > _FEW:
            return _by_rows(block, before, most)
        length = _equal(block, here, before, there)
        if here + length < len(block):
            length = block.rfind(b"\n", here, here + length) + 1 - here
        if length > 0:
            found.old(there, length)
            here, there = here + length, there + length
            continue
        end = block.index(b"\n", here) + 1
        row = block[here:end]
        near = before.find(b"\n" + row, there, there + _NEAR if here else len(before))
        if near >= 0:
            there = near + 1
            continue
        if not found.new(row):
            return _by_rows(block, before, most)
        if row.split(b"\t", 1)[0] == before[there : there + len(row)].split(b"\t", 1)[0]:
            there = before.find(b"\n", there) + 1
        here = end
    return found.edits()


class _Found:
    """Edits in the making."""

    def __init__(self, most: int) -> None:
        self.stretches: list[tuple[int | None, int]] = []
        self._rows: list[bytes] = []
        self._left = most

    def old(self, start: int, length: int) -> None:
        """Bytes of the earlier text."""
        self.stretches.append((start, length))

    def new(self, rows: bytes) -> bool:
        """Rows of its own; whether that is still not too much."""
        self._left -= len(rows)
        self._rows.append(rows)
        if self.stretches and self.stretches[-1][0] is None:
            self.stretches[-1] = None, self.stretches[-1][1] + len(rows)
        else:
            self.stretches.append((None, len(rows)))
        return self._left >= 0

    def edits(self) -> Edits:
        return Edits(tuple(self.stretches), b"".join(self._rows))


def _by_rows(block: bytes, before: bytes, most: int) -> Edits | None:
    """The same, row by row: dearer where few rows changed, cheaper where many did, or stand in another order."""
    old, rows = before[:-1].split(b"\n"), block[:-1].split(b"\n")
    found = _Found(most)
    numbers = dict(zip(old, range(len(old)), strict=True))
    starts = list(map(add, accumulate(map(len, old), initial=0), count()))
    first = following = -1

    def end_stretch() -> None:
        if first != following:
            found.old(starts[first], starts[following] - starts[first])

    for row, number in zip(rows, map(numbers.get, rows), strict=True):
        if number == following:
            following += 1
            continue
        end_stretch()
        if number is not None:
            first, following = number, number + 1
        elif found.new(row + b"\n"):
            first = following = -1
        else:
            return None
    end_stretch()
    return found.edits()


def _equal(one: bytes, here: int, other: bytes, there: int) -> int:
    """How many bytes from these places on are equal in both."""
    length, stride = 0, _STRIDE
    most = min(len(one) - here, len(other) - there)
    while length < most:
        stride = min(stride, most - length)
        a, b = here + length, there + length
        if one[a : a + stride] == other[b : b + stride]:
            length += stride
            stride = min(2 * stride, _LONGEST_STRIDE)
        elif stride == 1:
            break
        else:
            stride //= 2
            while stride > 1 and one[a : a + stride] != other[b : b + stride]:
                stride //= 2
    return length
