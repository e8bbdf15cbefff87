"""Collects rows for the demo's tables and writes them by ``COPY``, parents first. The same seed gives the same rows."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from agent.demo.schema import DemoColumn, demo_schema

NOW = datetime(2026, 6, 30, 18, 0)  # noqa: DTZ001 - the platform keeps UTC without a zone
_CUID_TABLES = frozenset({"business_products", "product_variants", "persons", "vehicles"})
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

Row = dict[str, Any]


class Rows:
    """Rows by table, each complete: what ``add`` is not told is made up by the column's type.

    ``salt`` makes the ids differ between laptops that are seeded with the same things.
    """

    def __init__(self, seed: int, salt: str = "") -> None:
        self.random = random.Random(f"{seed}:{salt}")  # noqa: S311 - made-up data, not a secret
        self._origin = f"{seed}:{salt}"
        self._rows: dict[str, list[Row]] = defaultdict(list)

    def new_id(self, table: str, number: int) -> str:
        """The id of the ``number``-th row of ``table``: a uuid, or a cuid as newer tables of the platform have."""
        digest = hashlib.sha256(f"{self._origin}:{table}:{number}".encode()).digest()
        if table in _CUID_TABLES:
            return "c" + "".join(_BASE36[byte % 36] for byte in digest[:24])
        text = digest[:16].hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def add(self, table: str, /, at: datetime | None = None, **values: Any) -> Row:
        """Add a row and return it, with its id. ``at`` is when it was made (default: some time in the last year)."""
        made_at = at or self.moment(360)
        number = len(self._rows[table]) + 1
        row: Row = {}
        for column in demo_schema().tables[table].columns.values():
            if column.name in values:
                row[column.name] = values.pop(column.name)
            elif column.name == "id":
                row["id"] = self.new_id(table, number)
            elif column.name == "updatedAt" or column.default == "CURRENT_TIMESTAMP":
                row[column.name] = made_at
            elif column.required and column.default is None:
                row[column.name] = _made_up(table, column, number, made_at)
        if values:
            raise KeyError(f"{table} has no column {', '.join(sorted(values))}")
        self._rows[table].append(row)
        return row

    def of(self, table: str) -> list[Row]:
        """The rows of ``table`` so far."""
        return self._rows[table]

    def moment(self, days: int, *, ahead: bool = False) -> datetime:
        """A time in the last (or, ``ahead``, next) ``days`` days, to the millisecond."""
        distance = timedelta(milliseconds=self.random.randrange(days * 86_400_000))
        return NOW + distance if ahead else NOW - distance

    def money(self, low: int, high: int) -> Decimal:
        """An amount from ``low`` to ``high`` units, with cents."""
        return Decimal(self.random.randrange(low * 100, high * 100)) / 100

    def mac(self) -> str:
        """A MAC address, locally administered."""
        return "02:" + ":".join(f"{self.random.randrange(256):02X}" for _ in range(5))

    async def write(self, connection: Any) -> None:
        """Copy everything collected into the database."""
        for table in parents_first():
            groups: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
            for row in self._rows.get(table, ()):
                groups[tuple(row)].append(_values(table, row))
            for columns, records in groups.items():
                await connection.copy_records_to_table(table, records=records, columns=columns)


def parents_first() -> list[str]:
    """All tables, each after those that it refers to (references to itself aside)."""
    tables = demo_schema().tables
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            for reference in tables[name].references:
                if reference.target != name:
                    visit(reference.target)
            order[name] = None

    for name in tables:
        visit(name)
    return list(order)


def _values(table: str, row: Row) -> tuple[Any, ...]:
    columns = demo_schema().tables[table].columns
    return tuple(_as_type(columns[name].type, value) for name, value in row.items())


def _as_type(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.startswith("numeric"):
        return value if isinstance(value, Decimal) else Decimal(str(value))
    return json.dumps(value, ensure_ascii=False) if kind == "jsonb" else value


def _made_up(table: str, column: DemoColumn, number: int, at: datetime) -> Any:
    """A value for a required column that nobody gave one."""
    if any(column.name in reference.columns for reference in demo_schema().tables[table].references):
        raise KeyError(f"{table}.{column.name} refers to another table and needs a value")
    kind = column.type
    if kind in {"text"} or kind.startswith("character varying"):
        return f"{column.name} {number}"
    if kind.startswith("timestamp"):
        return at
    if kind == "jsonb":
        return {}
    if kind == "boolean":
        return True
    if kind.startswith('"'):
        return demo_schema().enums[kind.strip('"')][0]
    return number


def cycle(values: Iterable[Any], count: int) -> list[Any]:
    """``count`` values, going round."""
    known = list(values)
    return [known[index % len(known)] for index in range(count)]
