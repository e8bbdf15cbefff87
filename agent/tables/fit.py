"""Whether a column of a bundle fits into a column of the live database, judged by their types alone. Pure.

Laptops of one shop can be a few migrations apart. A type that holds everything the other holds fits as it is; one
that may hold less fits if the data does, which the database checks row by row (:class:`Fit.check`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from agent.tables.schema import Column

_MODIFIER = re.compile(r"\((\d+)(?:,(-?\d+))?\)")
_TEXT = {"text", "character varying"}
_INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_FLOATS = {"real": 4, "double precision": 8}
_TIMES = {
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
    "interval",
}
_FULL_PRECISION = 6


@dataclass(frozen=True, slots=True)
class AtMostCharacters:
    """No text longer than ``length`` characters."""

    length: int


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """No number that is not whole or needs more than ``bytes`` bytes."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Digits:
    """No number with more than ``precision - scale`` digits before the point or ``scale`` after it."""

    precision: int
    scale: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """No time of type ``base`` with more than ``digits`` digits of its seconds."""

    base: str
    digits: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """No label but these."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoValue:
    """No value at all: there is no place for one."""


Check: TypeAlias = AtMostCharacters | WholeNumber | Digits | Seconds | OneOf | NoValue


@dataclass(frozen=True, slots=True)
class Fit:
    """How a column of a bundle goes into the live one.

    Without ``check`` it fits whatever it holds. With one, rows that break it do not fit. ``array`` tells that the
    check is for the elements. ``ignored`` columns are computed by the database itself. ``problem`` says in words
    what is wrong with rows that do not fit.
    """

    check: Check | None = None
    array: bool = False
    ignored: bool = False
    problem: str = ""


FITS = Fit()


@dataclass(frozen=True, slots=True)
class TypeText:
    """PostgreSQL's text of a type, taken apart: ``numeric(12,2)[]`` is base ``numeric``, arguments 12 and 2, array."""

    base: str
    arguments: tuple[int, ...]
    array: bool

    @classmethod
    def parse(cls, text: str) -> TypeText:
        element = text.removesuffix("[]")
        found = None if element.startswith('"') else _MODIFIER.search(element)
        base = element if found is None else element[: found.start()] + element[found.end() :]
        arguments = () if found is None else tuple(int(part) for part in found.groups() if part is not None)
        return cls(" ".join(base.split()), arguments, element != text)


def fit(source_type: str, source_labels: tuple[str, ...] | None, target: Column, labels: tuple[str, ...] | None) -> Fit:
    """How values of ``source_type`` fit into ``target``.

    ``source_labels`` and ``labels`` are the labels of the enum types behind them, None where there is no enum.
    """
    if target.generated:
        return Fit(ignored=True)
    source, wanted = TypeText.parse(source_type), TypeText.parse(target.type)
    if source.array != wanted.array:
        return _unfit(source_type, target)
    if labels is not None:
        return _into_enum(source, source_type, source_labels, target, labels)
    if source_type == target.type:
        return FITS
    check = _narrowing(source, wanted, source_labels)
    if isinstance(check, NoValue):
        return _unfit(source_type, target)
    if check is None:
        return FITS
    return Fit(check, source.array, problem=f"does not fit into {target.type} (it is {source_type} in the bundle)")


def _unfit(source_type: str, target: Column) -> Fit:
    return Fit(NoValue(), problem=f"is {source_type} in the bundle but {target.type} here")


def _into_enum(
    source: TypeText, source_type: str, source_labels: tuple[str, ...] | None, target: Column, labels: tuple[str, ...]
) -> Fit:
    if source_labels is not None and set(source_labels) <= set(labels):
        return FITS
    if source_labels is None and source.base not in _TEXT:
        return _unfit(source_type, target)
    return Fit(OneOf(labels), source.array, problem=f"has a label that {target.type} does not have here")


def _narrowing(source: TypeText, wanted: TypeText, source_labels: tuple[str, ...] | None) -> Check | None:
    """What to check of the values; None if all fit, ``NoValue`` if the types have nothing to do with each other."""
    if wanted.base in _TEXT:
        return _into_text(source, wanted, source_labels)
    if source.base in _FLOATS and wanted.base in _FLOATS:
        return None if _FLOATS[source.base] <= _FLOATS[wanted.base] else NoValue()
    numbers = {"numeric", *_INTEGERS}
    if source.base in numbers and wanted.base in numbers:
        return _into_number(source, wanted)
    if wanted.base in _TIMES and _same_time(source.base, wanted.base):
        have, room = _precision(source), _precision(wanted)
        return None if have <= room else Seconds(wanted.base, room)
    if source.base == wanted.base and not wanted.arguments:
        return None
    return NoValue()


def _into_text(source: TypeText, wanted: TypeText, source_labels: tuple[str, ...] | None) -> Check | None:
    if source_labels is not None:
        longest = max((len(label) for label in source_labels), default=0)
    elif source.base == "uuid":
        longest = 36
    elif source.base in {*_TEXT, "character"}:
        longest = source.arguments[0] if source.arguments else 1 << 30
    else:
        return NoValue()
    room = wanted.arguments[0] if wanted.arguments else 1 << 30
    return None if longest <= room else AtMostCharacters(room)


def _into_number(source: TypeText, wanted: TypeText) -> Check | None:
    if wanted.base in _INTEGERS:
        if source.base in _INTEGERS and _INTEGERS[source.base] <= _INTEGERS[wanted.base]:
            return None
        return WholeNumber(_INTEGERS[wanted.base])
    if not wanted.arguments:
        return None
    precision, scale = _digits(wanted)
    if source.base in _INTEGERS:
        whole, fraction = _DIGITS[source.base], 0
    elif source.arguments:
        have, fraction = _digits(source)
        whole = have - fraction
    else:
        return Digits(precision, scale)
    return None if whole <= precision - scale and fraction <= scale else Digits(precision, scale)


def _digits(number: TypeText) -> tuple[int, int]:
    return number.arguments[0], number.arguments[1] if len(number.arguments) > 1 else 0


def _same_time(source: str, wanted: str) -> bool:
    # Every session of ours has the time zone UTC, and so have the platform's timestamps without zone.
    return source == wanted or (source == "timestamp without time zone" and wanted == "timestamp with time zone")


def _precision(time: TypeText) -> int:
    return time.arguments[0] if time.arguments else _FULL_PRECISION
