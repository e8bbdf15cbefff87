"""The subset of msgpack that travels: one value, one encoding (FORMAT.md, "Values").

Stock unpackers accept several encodings of a value, duplicate keys and timestamps, and build sixty times the input
in memory before anyone can look at it. This decoder accepts only what ``pack`` makes and counts while it reads.
"""

from __future__ import annotations

from typing import TypeAlias

import msgpack

from protocol.errors import ProtocolError

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value] | None"
"""What may be packed: no floats, no negative numbers, no ext types; map keys are text."""

_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_INTEGERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
# The smallest length or number for which each wide form is the shortest one.
_SMALLEST = {
    **{0xC4: 0, 0xC5: 1 << 8, 0xC6: 1 << 16, 0xD9: 32, 0xDA: 1 << 8, 0xDB: 1 << 16},
    **{0xDC: 16, 0xDD: 1 << 16, 0xDE: 16, 0xDF: 1 << 16},
    **{0xCC: 1 << 7, 0xCD: 1 << 8, 0xCE: 1 << 16, 0xCF: 1 << 32},
}
_CONSTANTS: dict[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}


def pack(value: Value) -> bytes:
    """The one encoding of ``value``; maps keep the order in which they were filled."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    return packed


def unpack(data: bytes | memoryview, *, what: str, error: type[ProtocolError], values: int, nesting: int) -> Value:
    """The value that ``data`` encodes, and nothing but that value.

    ``what`` names the bytes in messages and ``error`` is what is raised if ``pack`` could not have made them, if
    they hold more than ``values`` values, or maps and arrays more than ``nesting`` deep.
    """
    decoder = _Decoder(data, what, error, values)
    value = decoder.value(nesting)
    if decoder.position != len(data):
        raise error(f"The {what} has {len(data) - decoder.position} bytes after its end.")
    return value


class _Decoder:
    """Walks over ``data`` once; ``position`` is the next byte to read."""

    __slots__ = ("_data", "_error", "_left", "_what", "position")

    def __init__(self, data: bytes | memoryview, what: str, error: type[ProtocolError], values: int) -> None:
        self._data = memoryview(data)
        self._what = what
        self._error = error
        self._left = values
        self.position = 0

    def value(self, nesting: int) -> Value:
        self._left -= 1
        if self._left < 0:
            raise self._error(f"The {self._what} holds too many values.")
        form = self._take(1)[0]
        if form < 0x80:
            return form
        if form in _CONSTANTS:
            return _CONSTANTS[form]
        if form in _INTEGERS:
            return self._number(form, _INTEGERS[form])
        if 0xA0 <= form < 0xC0:
            return self._text(form & 0x1F)
        if 0x90 <= form < 0xA0:
            return self._array(form & 0x0F, nesting)
        if 0x80 <= form < 0x90:
            return self._map(form & 0x0F, nesting)
        if form not in _LENGTHS:
            raise self._error(f"The {self._what} holds a value of a kind that does not travel (0x{form:02x}).")
        length = self._number(form, _LENGTHS[form])
        if form <= 0xC6:
            return self._take(length)
        if form <= 0xDB:
            return self._text(length)
        return self._array(length, nesting) if form <= 0xDD else self._map(length, nesting)

    def _take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise self._error(f"The {self._what} ends inside a value.")
        taken = bytes(self._data[self.position : end])
        self.position = end
        return taken

    def _number(self, form: int, width: int) -> int:
        number = int.from_bytes(self._take(width), "big")
        if number < _SMALLEST[form]:
            raise self._error(f"The {self._what} holds a number or length that is not in its shortest form.")
        return number

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._error(f"The {self._what} holds text that is not UTF-8.") from None

    def _array(self, length: int, nesting: int) -> list[Value]:
        self._enter(nesting)
        return [self.value(nesting - 1) for _ in range(length)]

    def _map(self, length: int, nesting: int) -> dict[str, Value]:
        self._enter(nesting)
        result: dict[str, Value] = {}
        for _ in range(length):
            key = self.value(0)
            if not isinstance(key, str):
                raise self._error(f"The {self._what} holds a map with a key that is not text.")
            if key in result:
                raise self._error(f"The {self._what} holds a map with the key {key[:60]!r} twice.")
            result[key] = self.value(nesting - 1)
        return result

    def _enter(self, nesting: int) -> None:
        if nesting <= 0:
            raise self._error(f"The {self._what} is nested too deeply.")
