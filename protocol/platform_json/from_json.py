"""From a JSON value to a field of COPY text, by the live column's type. What does not fit is refused, never rounded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TypeAlias

from protocol.manifest import ColumnEntry
from protocol.platform_json import moments
from protocol.platform_json.copy_text import NULL, escape, format_array
from protocol.platform_json.errors import ValueMisfit
from protocol.platform_json.json_text import Number, Value, as_written, write
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.numbers import NOT_FINITE, is_number
from protocol.platform_json.types import RANGES, Form, PgType

FieldReader: TypeAlias = Callable[[Value], str]
"""Takes a JSON value, gives a field of COPY text. Raises ``ValueMisfit``."""

_TextReader: TypeAlias = Callable[[Value], str]
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_LARGEST_EXPONENT = 10_000
_LONGEST_NUMBER = 20_000
_BYTES_KEYS = {"type", "data"}


def field_reader(
    column: ColumnEntry, labels: Sequence[str] | None = None, limits: FileLimits = DEFAULT_FILE_LIMITS
) -> FieldReader:
    """The reader for one column of the live table; ``labels`` are those of its enum."""
    kind = PgType.parse(column.type)
    read_text = _one_of(labels, column.type) if labels is not None else _scalar(kind, limits)
    if kind.array:
        read_text = _array(read_text, json_items=kind.form is Form.JSON)
    json_null = kind.is_json and labels is None

    def read_field(value: Value) -> str:
        if value is None and not json_null:
            return NULL
        return escape(read_text(value))

    return read_field


def any_value(value: Value) -> str:
    """A value of a column that is not here, as COPY text of JSON. NULL stays NULL."""
    return NULL if value is None else escape(_json_text(value, DEFAULT_FILE_LIMITS))


def _scalar(kind: PgType, limits: FileLimits) -> _TextReader:
    match kind.form:
        case Form.BOOLEAN:
            return _boolean
        case Form.INTEGER:
            return _whole(kind.base, as_text=False)
        case Form.BIGINT:
            return _whole(kind.base, as_text=True)
        case Form.DECIMAL:
            return _decimal(kind)
        case Form.FLOAT:
            return _float(kind)
        case Form.BYTES:
            return _bytes
        case Form.MOMENT | Form.CLOCK:
            return _moment(kind)
        case Form.JSON:
            return lambda value: _json_text(value, limits)
        case Form.TEXT:
            return _text(kind)


def _boolean(value: Value) -> str:
    if not isinstance(value, bool):
        raise _wrong(value, "true or false")
    return "t" if value else "f"


def _whole(base: str, *, as_text: bool) -> _TextReader:
    lowest, highest = RANGES[base]

    def read_whole(value: Value) -> str:
        # A bigint is a string; a plain number is taken where it is exact, which it is as text.
        if not isinstance(value, str) or not (as_text or isinstance(value, Number)):
            raise _wrong(value, "a whole number")
        if not _WHOLE.fullmatch(value) or not lowest <= int(value) <= highest:
            raise ValueMisfit(f"is no {base}: {value[:60]!r}")
        return "0" if value == "-0" else str(value)

    return read_whole


def _decimal(kind: PgType) -> _TextReader:
    precision, scale = (*kind.arguments, 0)[:2] if kind.arguments else (None, None)

    def read_decimal(value: Value) -> str:
        if not isinstance(value, str):
            raise _wrong(value, "a decimal number")
        if value in NOT_FINITE and not isinstance(value, Number):
            if precision is not None and value != "NaN":
                raise ValueMisfit(f"is infinite where the column is {_shown(kind)}")
            return value
        number = _finite(value)
        too_long = precision is not None and number and number.adjusted() >= precision - (scale or 0)
        if too_long or (scale is not None and _places(number) > scale):
            raise ValueMisfit(f"does not fit into {_shown(kind)} without rounding: {value[:60]!r}")
        return str(value)

    return read_decimal


def _finite(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER or not is_number(text):
        raise ValueMisfit(f"is no number: {text[:60]!r}")
    number = Decimal(text)
    if abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueMisfit(f"is a number out of all range: {text[:60]!r}")
    return number


def _places(number: Decimal) -> int:
    """How many digits after the point the number needs."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    ending = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return -(exponent + ending) if number else 0


def _float(kind: PgType) -> _TextReader:
    largest = 3.4028235677973366e38 if kind.base == "real" else math.inf

    def read_float(value: Value) -> str:
        if isinstance(value, Number):
            _finite(value)
            if not math.isfinite(float(value)) or abs(float(value)) >= largest:
                raise ValueMisfit(f"is out of the range of {kind.base}: {value[:60]!r}")
            return str(value)
        if isinstance(value, str) and value in NOT_FINITE:
            return value
        raise _wrong(value, "a number")

    return read_float


def _bytes(value: Value) -> str:
    if not isinstance(value, dict) or set(value) != _BYTES_KEYS or value["type"] != "Buffer":
        raise _wrong(value, 'bytes ({"type":"Buffer","data":[...]})')
    data = value["data"]
    if not isinstance(data, list) or not all(isinstance(item, Number) and item.isdecimal() for item in data):
        raise _wrong(value, "bytes")
    try:
        return "\\x" + bytes(map(int, data)).hex()  # type: ignore[arg-type]
    except ValueError:
        raise _wrong(value, "bytes from 0 to 255") from None


def _moment(kind: PgType) -> _TextReader:
    digits = kind.arguments[0] if kind.arguments else None

    def read_moment(value: Value) -> str:
        if not isinstance(value, str) or isinstance(value, Number):
            raise _wrong(value, "a time")
        return moments.stored(value, kind.base, digits)

    return read_moment


def _text(kind: PgType) -> _TextReader:
    longest = kind.arguments[0] if kind.arguments and kind.base.startswith("character") else None

    def read_text(value: Value) -> str:
        if not isinstance(value, str) or isinstance(value, Number):
            raise _wrong(value, "a text")
        if longest is not None and len(value) > longest and len(value.rstrip(" ")) > longest:
            raise ValueMisfit(f"is longer than {longest} characters")
        if kind.base == "uuid" and not _UUID.fullmatch(value):
            raise ValueMisfit(f"is no uuid: {value[:60]!r}")
        return _storable(value)

    return read_text


def _one_of(labels: Sequence[str], name: str) -> _TextReader:
    known = frozenset(labels)

    def read_label(value: Value) -> str:
        if not isinstance(value, str) or isinstance(value, Number):
            raise _wrong(value, "a text")
        if value not in known:
            raise ValueMisfit(f"has a label that {name.removesuffix('[]')} does not have here: {value[:60]!r}")
        return value

    return read_label


def _json_text(value: Value, limits: FileLimits) -> str:
    return _storable(write(value, _json_number, script_order=False, depth=limits.depth), in_json=True)


def _json_number(text: str) -> str:
    _finite(text)
    return as_written(text)


def _array(element: _TextReader, *, json_items: bool) -> _TextReader:
    def read_element(item: object) -> str | None:
        if item is None and not json_items:
            return None
        return element(item)  # type: ignore[arg-type]

    def read_array(value: Value) -> str:
        if not isinstance(value, list):
            raise _wrong(value, "an array")
        if json_items:
            return format_array([_Item(item) for item in value], lambda item: element(item.value))  # type: ignore[attr-defined]
        return format_array(value, read_element)

    return read_array


class _Item:
    """An element of an array of JSON: what is a list in it is a value, not a dimension."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


def _storable(text: str, *, in_json: bool = False) -> str:
    """``text`` if a database in UTF-8 can hold it."""
    if ("\\u0000" in text and "\\u0000" in text.replace("\\\\", "")) if in_json else ("\0" in text):
        raise ValueMisfit("has the character NUL, which a database cannot hold")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueMisfit("has half a character (a lone surrogate), which a database cannot hold") from None
    return text


def _wrong(value: Value, wanted: str) -> ValueMisfit:
    found = {bool: "true or false", dict: "an object", list: "an array", Number: "a number", str: "a text"}
    return ValueMisfit(f"is {found.get(type(value), 'null')} where {wanted} is wanted")


def _shown(kind: PgType) -> str:
    return f"{kind.base}({','.join(map(str, kind.arguments))})"
