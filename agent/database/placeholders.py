"""Rows that stand for another laptop's device rows: what a printer's required ``nodeId`` points at here.

Nothing of the other laptop's row is known or copied but the value that refers to it; the rest is what the catalogue
says an inactive row looks like, defaults, and neutral values. The made-up ids are derived from that value, so that
two laptops make the same row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.errors import DatabaseError
from agent.database.merge import WRITTEN, Merge
from agent.database.merge_write import missing_parent
from agent.database.names import column_list, literal, qualified, quote
from agent.tables.fit import TypeText
from agent.tables.schema import Column, ForeignKey, Schema, Table

_ZERO = {"smallint", "integer", "bigint", "numeric", "real", "double precision"}
_NOW = "(now() AT TIME ZONE 'UTC')"
_NEUTRAL = {
    "boolean": "false",
    "timestamp without time zone": _NOW,
    "timestamp with time zone": "now()",
    "date": f"{_NOW}::date",
    "time without time zone": "'00:00'",
    "time with time zone": "'00:00'",
    "interval": "'0'",
    "json": "'{}'",
    "jsonb": "'{}'",
    "bytea": "''",
    "inet": "'0.0.0.0'",
    "cidr": "'0.0.0.0/32'",
    "macaddr": "'00:00:00:00:00:00'",
}


class NoPlaceholder(DatabaseError):
    code = "no-placeholder"
    hint = "Give the table values in tables.toml: placeholder = { column = value }."


@dataclass(frozen=True, slots=True)
class Wanted:
    """References that need a placeholder in ``table``: rows to be written and the foreign key of each.

    ``values`` are the catalogue's for such a row.
    """

    table: Table
    columns: tuple[str, ...]
    references: tuple[tuple[Merge, ForeignKey], ...]
    values: Mapping[str, str | int | bool]


async def count_placeholders(connection: asyncpg.Connection, schema: Schema, wanted: Wanted) -> int:
    """How many rows have to be made."""
    return int(await connection.fetchval(f"SELECT count(*) FROM ({missing_keys(schema, wanted)}) missing"))


async def make_placeholders(connection: asyncpg.Connection, schema: Schema, wanted: Wanted) -> int:
    """Make the rows; returns how many."""
    columns, values = list(wanted.columns), [f"m.{quote(name)}" for name in wanted.columns]
    unique = {name for key in wanted.table.keys for name in key.columns}
    for column in wanted.table.columns:
        if column.name in wanted.columns or column.generated:
            continue
        if column.name in wanted.values:
            columns.append(column.name)
            values.append(f"{literal(_as_text(wanted.values[column.name]))}::{column.type}")
        elif not column.fills_itself:
            columns.append(column.name)
            values.append(_neutral(wanted, column, schema, column.name in unique))
    status = await connection.execute(
        f"INSERT INTO {qualified(wanted.table)} ({column_list(columns)}) "
        f"SELECT {', '.join(values)} FROM ({missing_keys(schema, wanted)}) m"
    )
    return int(status.rpartition(" ")[2])


def missing_keys(schema: Schema, wanted: Wanted) -> str:
    """The values, as a query over ``columns``, for which a row has to be made."""
    selects: Sequence[str] = [
        "SELECT "
        + ", ".join(f"s.{quote(ours)} AS {quote(theirs)}" for ours, theirs in _pairs(key))
        + f" FROM {merge.stage.relation} s WHERE {merge.chosen(*WRITTEN)} AND {missing_parent(schema, key)}"
        for merge, key in wanted.references
    ]
    return " UNION ".join(selects) if len(selects) > 1 else f"SELECT DISTINCT{selects[0].removeprefix('SELECT')}"


def _pairs(key: ForeignKey) -> list[tuple[str, str]]:
    return sorted(zip(key.columns, key.references_columns, strict=True), key=lambda pair: pair[1])


def _as_text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _neutral(wanted: Wanted, column: Column, schema: Schema, unique: bool) -> str:
    """A value for a required column that nobody knows one for, as SQL over the missing key ``m``."""
    parsed = TypeText.parse(column.type)
    known = f"md5({literal(wanted.table.name)} || ROW({column_list(wanted.columns, 'm')})::text)"
    if any(column.name in key.columns for key in wanted.table.foreign_keys):
        raise NoPlaceholder(
            f"A row of {wanted.table.name} is needed here, and its required {column.name} refers to yet another row."
        )
    if parsed.array:
        return f"'{{}}'::{column.type}"
    if parsed.base in {"text", "character varying", "character"}:
        room = parsed.arguments[0] if parsed.arguments else 36
        return f"left({known}::uuid::text, {room})" if unique else "''"
    if parsed.base == "uuid":
        return f"{known}::uuid"
    if column.enum and not unique:
        return f"{literal(schema.enums[column.enum][0])}::{column.type}"
    if parsed.base in _ZERO and not unique:
        return "0"
    if parsed.base in _NEUTRAL and not unique:
        return f"{_NEUTRAL[parsed.base]}::{column.type}"
    raise NoPlaceholder(
        f"A row of {wanted.table.name} is needed here, and there is no neutral value for its required {column.name} "
        f"({column.type})."
    )
