"""JSON text: values whose numbers stay as they were written, and the one text in which each value is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, NoReturn, TypeAlias

from protocol.platform_json.errors import NotAPlatformFile, PlatformFileTooLarge, ValueMisfit
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.numbers import script_number


class Number(str):
    """A number, in the text of the file."""

    __slots__ = ()


Value: TypeAlias = "bool | str | list[Value] | dict[str, Value] | None"
"""A decoded value; a number is a :class:`Number`."""

# In JSON, a space between values has one of the six marks on one side, at least.
_MAYBE_SPACE = re.compile(r"[\[\]{},:][ \t\n\r]|[ \t\n\r][\[\]{},:]")
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^" \t\n\r]+', re.DOTALL)
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_LAST_INDEX = (1 << 32) - 2

quote: Callable[[str], str] = encode_basestring
"""A string as JavaScript's ``JSON.stringify`` writes it (beside lone surrogates, which no database holds)."""


_whole = lru_cache(10_000)(Number)  # most whole numbers of a file are the same few


def _constant(text: str) -> NoReturn:
    raise NotAPlatformFile(f"{text} stands where JSON has no such value.")


DECODER = json.JSONDecoder(parse_float=Number, parse_int=_whole, parse_constant=_constant)


def parse(text: str, limits: FileLimits = DEFAULT_FILE_LIMITS) -> Value:
    """The value of a whole JSON text. Raises ``ValueMisfit`` or ``PlatformFileTooLarge``."""
    if text.count("[") + text.count("{") > limits.containers:
        raise PlatformFileTooLarge("A JSON value has too many objects and arrays.")
    try:
        value, end = DECODER.raw_decode(text.strip(" \t\n\r"))
    except json.JSONDecodeError as error:
        raise ValueMisfit(f"is no JSON ({error.msg})") from None
    except RecursionError:
        raise PlatformFileTooLarge("A JSON value is nested too deeply.") from None
    if end != len(text.strip(" \t\n\r")):
        raise ValueMisfit("is no JSON (something follows it)")
    result: Value = value
    return result


def write(value: Value, number: Callable[[str], str], *, script_order: bool, depth: int) -> str:
    """The one text of a value, without spaces. ``number`` lays a number out; ``script_order`` puts keys that are
    array indexes first, as JavaScript does. At most ``depth`` levels; raises ``PlatformFileTooLarge``."""
    parts: list[str] = []
    _write(value, number, script_order, depth, parts)
    return "".join(parts)


def _write(value: Any, number: Callable[[str], str], script_order: bool, depth: int, parts: list[str]) -> None:
    if isinstance(value, Number):
        parts.append(number(value))
    elif isinstance(value, str):
        parts.append(quote(value))
    elif value is None or isinstance(value, bool):
        parts.append("null" if value is None else "true" if value else "false")
    elif depth <= 0:
        raise PlatformFileTooLarge("A JSON value is nested too deeply.")
    elif isinstance(value, list):
        mark = "["
        for item in value:
            parts.append(mark)
            _write(item, number, script_order, depth - 1, parts)
            mark = ","
        parts.append("]" if value else "[]")
    else:
        mark = "{"
        for key in _in_script_order(value) if script_order else value:
            parts.append(f"{mark}{quote(key)}:")
            _write(value[key], number, script_order, depth - 1, parts)
            mark = ","
        parts.append("}" if value else "{}")


def _in_script_order(value: dict[str, Value]) -> list[str]:
    indexes = [key for key in value if _INDEX.fullmatch(key) and int(key) <= _LAST_INDEX]
    if not indexes:
        return list(value)
    return [*sorted(indexes, key=int), *(key for key in value if key not in set(indexes))]


def minified(text: str) -> str:
    """Valid JSON text of an object or array without the spaces between its values."""
    return text if _MAYBE_SPACE.search(text) is None else "".join(_TOKENS.findall(text))


def as_written(text: str) -> str:
    """A number's layout: unchanged."""
    return text


def as_script(inexact: Callable[[], None]) -> Callable[[str], str]:
    """A number's layout: JavaScript's. ``inexact`` is called for one that no double holds; it is written exactly."""

    def number(text: str) -> str:
        shown, exact = script_number(text)
        if not exact:
            inexact()
        return shown

    return number
