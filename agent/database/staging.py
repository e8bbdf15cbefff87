"""Staging: rows of a bundle in temporary tables, typed as the live tables are (DESIGN section 5).

Values that may not fit are staged as text, checked, and only then cast, so that drift is a list of columns and counts
and never a failed COPY.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from agent.database.names import literal, qualified, quote
from agent.tables.fit import AtMostCharacters, Check, Digits, Fit, NoValue, OneOf, Seconds, WholeNumber
from agent.tables.schema import Table

_NUMBER_BITS = 8


@dataclass(frozen=True, slots=True)
class StagedColumn:
    """A column of the bundle. ``known`` is whether the live table has it; ``fit`` how it goes in."""

    name: str
    known: bool
    fit: Fit

    @property
    def as_text(self) -> bool:
        return not self.known or self.fit.check is not None or self.fit.ignored

    @property
    def written(self) -> bool:
        """Whether it goes into the live table."""
        return self.known and not self.fit.ignored


class Place(NamedTuple):
    """The table that rows are copied into; ``as_old`` where this transaction has made or truncated it and rows may be
    written as if they were old: nobody need look, or note in them, who wrote them, and no vacuum has to."""

    namespace: str
    name: str
    as_old: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One entry of a bundle in its temporary table: ``index`` is the entry's, ``columns`` in the bundle's order.

    A ``loaded`` one is in the live table itself, which was empty; where that was truncated in this transaction, rows
    are written ``as_old``.
    """

    index: int
    table: Table
    columns: tuple[StagedColumn, ...]
    loaded: bool = False
    as_old: bool = False

    @property
    def name(self) -> str:
        return f"backroom_stage_{self.index}"

    @property
    def relation(self) -> str:
        return qualified(self.table) if self.loaded else f"pg_temp.{quote(self.name)}"

    @property
    def place(self) -> Place:
        """The table that the rows are copied into."""
        if self.loaded:
            return Place(self.table.namespace, self.table.name, self.as_old)
        return Place("pg_temp", self.name)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the columns that go into the live table."""
        return tuple(column.name for column in self.columns if column.written)


async def create_stages(connection: asyncpg.Connection, stages: Iterable[Stage]) -> None:
    """Make the temporary tables, where they are needed; they go with the transaction."""
    if created := [_create(stage) for stage in stages if not stage.loaded]:
        await connection.execute("; ".join(created))


def _create(stage: Stage) -> str:
    columns = ", ".join(
        f"NULL::text AS {quote(column.name)}" if column.as_text else f"l.{quote(column.name)}"
        for column in stage.columns
    )
    return (
        f"CREATE TEMP TABLE {quote(stage.name)} ON COMMIT DROP AS SELECT {columns} "
        f"FROM {qualified(stage.table)} l WITH NO DATA"
    )


async def create_text_stage(connection: asyncpg.Connection, name: str, columns: Sequence[str]) -> None:
    """Make a temporary table whose columns are all text; it goes with the transaction."""
    listed = ", ".join(f"{quote(column)} text" for column in columns)
    await connection.execute(f"CREATE TEMP TABLE {quote(name)} ({listed}) ON COMMIT DROP")


async def copy_rows(
    connection: asyncpg.Connection, place: Place, columns: Sequence[str], blocks: AsyncIterator[bytes]
) -> int:
    """Copy blocks of COPY text into the table; returns the number of rows.

    After an error the connection is of no use but to be terminated.
    """
    status = await connection.copy_to_table(
        place.name, schema_name=place.namespace, columns=list(columns), source=blocks, freeze=place.as_old or None
    )
    return int(status.rpartition(" ")[2])


async def count_misfits(connection: asyncpg.Connection, stage: Stage) -> dict[str, int]:
    """For each column whose values may not fit: how many do not. Columns without misfits are left out."""
    return await _count(
        connection,
        stage,
        {
            column.name: _misfit(quote(column.name), column.fit)
            for column in stage.columns
            if column.fit.check is not None
        },
    )


async def count_missing(connection: asyncpg.Connection, stage: Stage) -> dict[str, int]:
    """For each column that is required here: how many staged rows have no value in it."""
    required = {column.name for column in stage.table.columns if column.not_null}
    return await _count(
        connection, stage, {name: f"{quote(name)} IS NULL" for name in stage.written if name in required}
    )


async def settle_types(connection: asyncpg.Connection, stage: Stage) -> None:
    """Give the columns that were staged as text, and whose values all fit, the types of the live table."""
    changes: list[str] = []
    for column in stage.columns:
        target = stage.table.column(column.name)
        if column.as_text and column.written and target is not None:
            name = quote(column.name)
            changes.append(f"ALTER COLUMN {name} TYPE {target.type} USING {name}::{target.type}")
    if changes:
        await connection.execute(f"ALTER TABLE {stage.relation} {', '.join(changes)}")


async def _count(connection: asyncpg.Connection, stage: Stage, conditions: dict[str, str]) -> dict[str, int]:
    if not conditions:
        return {}
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in conditions.values())
    row = await connection.fetchrow(f"SELECT {counts} FROM {stage.relation}")
    assert row is not None
    return {name: rows for name, rows in zip(conditions, row.values(), strict=True) if rows}


def _misfit(column: str, fit: Fit) -> str:
    """Boolean SQL over the text ``column``: it holds a value that does not fit."""
    assert fit.check is not None
    if fit.array and not isinstance(fit.check, NoValue):
        return f"EXISTS (SELECT FROM unnest({column}::text[]) element WHERE {_breaks('element', fit.check)})"
    return f"({_breaks(column, fit.check)}) IS TRUE"


def _breaks(value: str, check: Check) -> str:
    match check:
        case NoValue():
            return f"{value} IS NOT NULL"
        case AtMostCharacters(length):
            return f"length({value}) > {length}"
        case WholeNumber(size):
            limit = 1 << (_NUMBER_BITS * size - 1)
            number = f"{value}::numeric"
            return f"{number} NOT BETWEEN -{limit} AND {limit - 1} OR {number} <> trunc({number})"
        case Digits(precision, scale):
            number = f"{value}::numeric"
            too_large = f"abs({number}) >= 10::numeric ^ {precision - scale}"
            return f"{number} <> 'NaN' AND ({too_large} OR {number} <> round({number}, {scale}))"
        case Seconds(base, digits):
            first, _, rest = base.partition(" ")
            return f"{value}::{base} <> {value}::{first}({digits}) {rest}".rstrip()
        case OneOf(labels):
            return f"{value} <> ALL (ARRAY[{_literals(labels)}]::text[])"


def _literals(labels: Sequence[str]) -> str:
    return ", ".join(literal(label) for label in labels)
