"""Taking decoded values apart: every key known, every type exact, every length bounded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from protocol.canonical import Value
from protocol.errors import ProtocolError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


class Fields:
    """A decoded map that must have exactly ``keys``, in that order.

    The getters return a key's value as the type in their name and raise ``error`` where it is another;
    ``what`` names the map in messages.
    """

    __slots__ = ("_error", "_values", "what")

    def __init__(self, value: Value, keys: Sequence[str], *, what: str, error: type[ProtocolError]) -> None:
        if not isinstance(value, dict):
            raise error(f"The {what} is not a map.")
        if list(value) != list(keys):
            missing = [key for key in keys if key not in value]
            unknown = [key[:60] for key in value if key not in keys]
            problem = f"lacks {missing}" if missing else f"has the unknown keys {unknown[:10]}"
            if not missing and not unknown:
                problem = "does not have its keys in the order of the format"
            raise error(f"The {what} {problem}.")
        self._values = value
        self._error = error
        self.what = what

    def text(self, key: str) -> str:
        return as_text(self._values[key], f"{key} of the {self.what}", self._error)

    def optional_text(self, key: str) -> str | None:
        return None if self._values[key] is None else self.text(key)

    def integer(self, key: str) -> int:
        value = self._values[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a number")
        return value

    def boolean(self, key: str) -> bool:
        value = self._values[key]
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def binary(self, key: str) -> bytes:
        value = self._values[key]
        if not isinstance(value, bytes):
            raise self._wrong(key, "bytes")
        return value

    def array(self, key: str) -> list[Value]:
        value = self._values[key]
        if not isinstance(value, list):
            raise self._wrong(key, "an array")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        numbers = tuple(value for value in self.array(key) if type(value) is int)
        if len(numbers) != len(self.array(key)):
            raise self._wrong(key, "an array of numbers")
        return numbers

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(as_text(value, f"{key} of the {self.what}", self._error) for value in self.array(key))

    def value(self, key: str) -> Value:
        return self._values[key]

    def _wrong(self, key: str, wanted: str) -> ProtocolError:
        return self._error(f"The {key} of the {self.what} is not {wanted}.")


def as_text(value: Value, what: str, error: type[ProtocolError]) -> str:
    """``value`` if it is text."""
    if not isinstance(value, str):
        raise error(f"The {what} is not text.")
    return value


def check_text(value: str, what: str, most: int, error: type[ProtocolError], *, least: int = 1) -> None:
    """Refuse text that is not ``least`` to ``most`` bytes of UTF-8, or that holds a NUL (PostgreSQL has none)."""
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise error(f"The {what} is not valid Unicode text.") from None
    if not least <= size <= most:
        raise error(f"The {what} is {size} bytes long; {least} to {most} are allowed.")
    if "\0" in value:
        raise error(f"The {what} holds a NUL character.")


def check_id(value: str, what: str, most: int, error: type[ProtocolError]) -> None:
    """Refuse what is not an opaque ID: ASCII letters, digits, ``.``, ``_`` and ``-``, not leading with a sign.

    IDs end up in paths, headers and log lines, so they hold nothing that means something there.
    """
    if not _ID.fullmatch(value) or len(value) > most:
        raise error(f"The {what} is not an ID (1 to {most} letters, digits, dots, dashes and underscores).")


def check_range(value: int, what: str, most: int, error: type[ProtocolError], *, least: int = 0) -> None:
    """Refuse a number outside of ``least`` to ``most``."""
    if not least <= value <= most:
        raise error(f"The {what} is {value}; {least} to {most} is allowed.")


def check_unique(values: Sequence[object], what: str, error: type[ProtocolError]) -> None:
    """Refuse a sequence that holds a value twice."""
    if len(set(values)) != len(values):
        raise error(f"The {what} holds a value twice.")
