"""Reads and writes the fields of peer messages: canonical msgpack maps in, checked values out.

A message is one msgpack map (protocol/PEER.md, "Messages"). Every field is read by name with its type and its bound;
a field that is missing, has another type, is too long, occurs twice or is not known refuses the whole message, so that
nothing half-understood is ever acted on. Pure: bytes in, values out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from protocol import canonical
from protocol.errors import MessageError

T = TypeVar("T")

MAX_MESSAGE_BYTES = 1 << 20
"""Bound on one message, unless its class says otherwise."""
MAX_TEXT = 2_000
"""Bound on sentences (reasons, hints), in characters."""
MAX_NAME = 200
"""Bound on names and IDs, in characters."""
MAX_VALUES = 200_000
"""Bound on the values in one message."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pack(value: object) -> bytes:
    """One message (a dataclass) as msgpack bytes."""
    return canonical.pack(_plain(value))


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exact. ``moment`` must be aware."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


class Fields:
    """The fields of one received map, read one by one; ``end`` refuses what was not read."""

    __slots__ = ("_left", "_what")

    def __init__(self, values: object, what: str) -> None:
        if not isinstance(values, dict):
            raise MessageError(f"The {what} is not a map of fields.")
        self._left: dict[str, Any] = dict(values)
        self._what = what

    @classmethod
    def read(cls, data: bytes, what: str, limit: int = MAX_MESSAGE_BYTES) -> Fields:
        """Unpack ``data``, at most ``limit`` bytes; ``what`` names the message in errors."""
        if len(data) > limit:
            raise MessageError(f"The {what} has {len(data)} bytes; at most {limit} are allowed.")
        values = canonical.unpack(data, what=what, error=MessageError, values=MAX_VALUES, nesting=6)
        return cls(values, what)

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.end()

    def end(self) -> None:
        """Refuse fields that nobody asked for; leaving a ``with`` block does it too."""
        if self._left:
            raise MessageError(f"The {self._what} has an unknown field {sorted(self._left)[0][:60]!r}.")

    def text(self, name: str, limit: int = MAX_NAME) -> str:
        """A text of at most ``limit`` characters."""
        value = self._take(name, str)
        if len(value) > limit:
            raise self._bad(name, f"has {len(value)} characters; at most {limit} are allowed")
        return value

    def maybe_text(self, name: str, limit: int = MAX_NAME) -> str | None:
        """A text, or nil."""
        return None if self._nil(name) else self.text(name, limit)

    def data(self, name: str, limit: int) -> bytes:
        """Bytes, at most ``limit`` of them."""
        value = self._take(name, bytes)
        if len(value) > limit:
            raise self._bad(name, f"has {len(value)} bytes; at most {limit} are allowed")
        return value

    def maybe_data(self, name: str, limit: int) -> bytes | None:
        """Bytes, or nil."""
        return None if self._nil(name) else self.data(name, limit)

    def number(self, name: str, limit: int = 1 << 62) -> int:
        """A whole number from 0 to ``limit``."""
        value = self._take(name, int)
        if not 0 <= value <= limit:
            raise self._bad(name, f"is {value}; 0 to {limit} is allowed")
        return value

    def maybe_number(self, name: str, limit: int = 1 << 62) -> int | None:
        """A whole number, or nil."""
        return None if self._nil(name) else self.number(name, limit)

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._take(name, bool)

    def moment(self, name: str) -> datetime:
        """A time, sent as microseconds since 1970 UTC."""
        return _EPOCH + timedelta(microseconds=self.number(name, 253_402_300_799_000_000))

    def choice(self, name: str, allowed: Iterable[str]) -> str:
        """One of a closed set of words."""
        value, words = self.text(name), tuple(allowed)
        if value not in words:
            raise self._bad(name, f"is {value!r}; allowed are {', '.join(words)}")
        return value

    def items(self, name: str, limit: int, build: Callable[[object], T]) -> tuple[T, ...]:
        """A list of at most ``limit`` items, each made by ``build``."""
        values = self._take(name, list)
        if len(values) > limit:
            raise self._bad(name, f"has {len(values)} items; at most {limit} are allowed")
        return tuple(build(value) for value in values)

    def mapping(self, name: str, limit: int, build: Callable[[object], T]) -> dict[str, T]:
        """A map with names as keys and at most ``limit`` entries, each made by ``build``."""
        values = self._take(name, dict)
        if len(values) > limit:
            raise self._bad(name, f"has {len(values)} entries; at most {limit} are allowed")
        if any(len(key) > MAX_NAME for key in values):
            raise self._bad(name, f"has a key of more than {MAX_NAME} characters")
        return {key: build(value) for key, value in values.items()}

    def numbers(self, name: str, limit: int) -> tuple[int, ...]:
        """A list of at most ``limit`` whole numbers."""
        return self.items(name, limit, as_count)

    def maybe(self, name: str, build: Callable[[object], T]) -> T:
        """Whatever ``build`` makes of the value, which may be nil."""
        return build(self._pop(name))

    def _nil(self, name: str) -> bool:
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return True
        return False

    def _take(self, name: str, kind: type[T]) -> T:
        value = self._pop(name)
        if type(value) is not kind:
            raise self._bad(name, f"is {type(value).__name__}; {kind.__name__} is needed")
        return value

    def _pop(self, name: str) -> Any:
        if name not in self._left:
            raise MessageError(f"The {self._what} lacks the field {name!r}.")
        return self._left.pop(name)

    def _bad(self, name: str, problem: str) -> MessageError:
        return MessageError(f"The field {name!r} of the {self._what} {problem}.")


def as_text(value: object) -> str:
    """A list item that must be a name."""
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise MessageError(f"A list of a message holds something that is not a text of at most {MAX_NAME} characters.")
    return value


def as_count(value: object) -> int:
    """A list item or map value that must be a whole number from 0."""
    if type(value) is not int or not 0 <= value <= 1 << 62:
        raise MessageError("A message holds a count that is not a whole number from 0 up.")
    return value


def as_counts(value: object) -> dict[str, int]:
    """A map value that must itself be a map of names to counts."""
    return Fields({"counts": value}, "map of counts").mapping("counts", 100, as_count)
