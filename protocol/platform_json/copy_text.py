"""PostgreSQL's COPY text and array text: escapes, and literals like ``{a,"b c",NULL,{1,2}}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from protocol.platform_json.errors import ValueMisfit

NULL = r"\N"
Nested: TypeAlias = "str | list[Nested] | None"

_TO_ESCAPE = re.compile(r"[\b\t\n\v\f\r\\]")
_ESCAPES = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r", "\\": r"\\"}
_LETTERS = {"b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ESCAPED = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.|$)", re.DOTALL)
_ARRAY_BOUNDS = re.compile(r"(?:\[[+-]?[0-9]+:[+-]?[0-9]+\])+=", re.ASCII)
_ARRAY_TOKEN = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"|([{},])|((?:[^{},"\\]|\\.)+)', re.DOTALL)
_ARRAY_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_QUOTES = re.compile(r'[{},"\\ \t\n\r\v\f]')
_DIMENSIONS = 6


def escape(text: str) -> str:
    """``text`` as a field of COPY text, exactly as the server itself writes it."""
    if _TO_ESCAPE.search(text) is None:
        return text
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)


def unescape(field: str) -> str:
    """The text behind a field of COPY text that is not NULL."""
    return field if "\\" not in field else _ESCAPED.sub(_unescaped, field)


def _unescaped(found: re.Match[str]) -> str:
    what = found[1]
    if what in _LETTERS:
        return _LETTERS[what]
    if what[:1] == "x" and len(what) > 1:
        return _character(int(what[1:], 16))
    if what and what[0] in "01234567":
        return _character(int(what, 8) & 0xFF)
    if not what:
        raise ValueMisfit("ends in the middle of an escape")
    return what


def _character(code: int) -> str:
    if not 0 < code < 0x80:
        raise ValueMisfit("has an escape that is no character")
    return chr(code)


def parse_array(text: str) -> list[Nested]:
    """The elements of an array literal, NULL as None; its lower bounds are not kept. Raises ``ValueMisfit``."""
    bounds = _ARRAY_BOUNDS.match(text)
    at = bounds.end() if bounds else 0
    root: list[Nested] = []
    stack: list[list[Nested]] = []
    expects_value = True
    while at < len(text):
        token = _ARRAY_TOKEN.match(text, at)
        if token is None:
            raise ValueMisfit(f"is no array: {text[:60]!r}")
        quoted, mark, bare = token.groups()
        if mark == "{" and expects_value:
            inner: list[Nested] = [] if stack else root
            if stack:
                stack[-1].append(inner)
            stack.append(inner)
            if len(stack) > _DIMENSIONS:
                raise ValueMisfit(f"is an array of more than {_DIMENSIONS} dimensions")
        elif mark == "}" and stack and (not expects_value or not stack[-1]):
            stack.pop()
            expects_value = False
            if not stack and token.end() == len(text):
                return root
        elif mark == "," and stack and not expects_value:
            expects_value = True
        elif mark is None and stack and expects_value:
            stack[-1].append(_element(quoted, bare))
            expects_value = False
        else:
            raise ValueMisfit(f"is no array: {text[:60]!r}")
        at = token.end()
    raise ValueMisfit(f"is no array: {text[:60]!r}")


def _element(quoted: str | None, bare: str | None) -> str | None:
    if quoted is not None:
        return quoted if "\\" not in quoted else _ARRAY_ESCAPE.sub(r"\1", quoted)
    assert bare is not None
    if bare.upper() == "NULL":
        return None
    return bare.strip(" \t\n\r\v\f") if "\\" not in bare else _ARRAY_ESCAPE.sub(r"\1", bare)


def format_array(items: Sequence[object], element: Callable[[object], str | None]) -> str:
    """The literal of an array; ``element`` gives the text of an item that is not a list (None: NULL).

    Raises ``ValueMisfit`` where the array is ragged or has too many dimensions: PostgreSQL has no such arrays.
    """
    text, _ = _formatted(items, element, 1)
    return text


def _formatted(items: Sequence[object], element: Callable[[object], str | None], depth: int) -> tuple[str, object]:
    if depth > _DIMENSIONS:
        raise ValueMisfit(f"is an array of more than {_DIMENSIONS} dimensions")
    parts: list[str] = []
    shapes: list[object] = []
    for item in items:
        if isinstance(item, list):
            text, shape = _formatted(item, element, depth + 1)
            if not item:
                raise ValueMisfit("is an array with an empty array in it")
        else:
            text, shape = _quoted(element(item)), None
        parts.append(text)
        shapes.append(shape)
    if any(shape != shapes[0] for shape in shapes):
        raise ValueMisfit("is an array whose rows differ in length")
    return "{" + ",".join(parts) + "}", (len(items), shapes[0] if shapes else None)


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    if text and text.upper() != "NULL" and _NEEDS_QUOTES.search(text) is None:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
