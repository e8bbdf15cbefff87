"""PostgreSQL's text of a type, taken apart, and the form of JSON value that the platform gives it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_MODIFIER = re.compile(r"\((\d+)(?:,(-?\d+))?\)", re.ASCII)


class Form(StrEnum):
    """How values of a type look in the platform's JSON."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    BIGINT = "bigint"
    DECIMAL = "decimal"
    FLOAT = "float"
    JSON = "json"
    BYTES = "bytes"
    MOMENT = "moment"
    CLOCK = "clock"
    TEXT = "text"


_FORMS = {
    "boolean": Form.BOOLEAN,
    "smallint": Form.INTEGER,
    "integer": Form.INTEGER,
    "oid": Form.INTEGER,
    "bigint": Form.BIGINT,
    "numeric": Form.DECIMAL,
    "real": Form.FLOAT,
    "double precision": Form.FLOAT,
    "json": Form.JSON,
    "jsonb": Form.JSON,
    "bytea": Form.BYTES,
    "timestamp without time zone": Form.MOMENT,
    "timestamp with time zone": Form.MOMENT,
    "date": Form.MOMENT,
    "time without time zone": Form.CLOCK,
}
RANGES = {
    "smallint": (-(1 << 15), (1 << 15) - 1),
    "integer": (-(1 << 31), (1 << 31) - 1),
    "bigint": (-(1 << 63), (1 << 63) - 1),
    "oid": (0, (1 << 32) - 1),
}
"""Lowest and highest value of the whole numbers."""


@dataclass(frozen=True, slots=True)
class PgType:
    """``numeric(12,2)[]`` is base ``numeric``, arguments 12 and 2, array."""

    base: str
    arguments: tuple[int, ...]
    array: bool

    @classmethod
    def parse(cls, text: str) -> PgType:
        element = text.removesuffix("[]")
        found = None if element.startswith('"') else _MODIFIER.search(element)
        base = element if found is None else element[: found.start()] + element[found.end() :]
        arguments = () if found is None else tuple(int(part) for part in found.groups() if part is not None)
        return cls(" ".join(base.split()), arguments, element != text)

    @property
    def form(self) -> Form:
        """The form of a value, or of an element of an array. An enum's is text, like every other type's."""
        return _FORMS.get(self.base, Form.TEXT)

    @property
    def is_json(self) -> bool:
        """Whether a JSON null is a value of this type, so that the database's NULL has to be left out."""
        return self.form is Form.JSON and not self.array
