"""Schema drift: what a bundle holds that the tables here have no place for (DESIGN section 5). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.tables.fit import Fit, NoValue, fit
from agent.tables.schema import Schema, Table
from protocol.manifest import ColumnEntry, Manifest, TableEntry


@dataclass(frozen=True, slots=True)
class DriftProblem:
    """One thing that does not fit. ``what`` is a word for programs: ``missing-table``, ``missing-column``,
    ``required-column``, ``value`` (its type or label) or ``null``. ``rows`` is how many rows of the bundle it concerns.
    """

    table: str
    column: str | None
    what: str
    rows: int
    detail: str

    def __str__(self) -> str:
        where = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{where} {self.detail} ({self.rows} row{'' if self.rows == 1 else 's'})"


@dataclass(frozen=True, slots=True)
class ColumnFit:
    """A column of a bundle's entry and how it goes into the live table. ``known`` is whether the table has it."""

    name: str
    known: bool
    fit: Fit


def missing_table(entry: TableEntry) -> DriftProblem:
    """The table of ``entry`` is not here."""
    return DriftProblem(entry.table, None, "missing-table", entry.rows, "does not exist here")


def column_fits(entry: TableEntry, table: Table, manifest: Manifest, schema: Schema) -> tuple[ColumnFit, ...]:
    """How each column of the entry goes into the live table, in the entry's order."""
    return tuple(_column_fit(column, table, manifest.enums, schema) for column in entry.columns)


def _column_fit(source: ColumnEntry, table: Table, enums: Mapping[str, tuple[str, ...]], schema: Schema) -> ColumnFit:
    target = table.column(source.name)
    if target is None:
        return ColumnFit(source.name, False, Fit(NoValue(), problem="does not exist here"))
    source_labels = enums.get(source.enum) if source.enum else None
    labels = schema.enums.get(target.enum) if target.enum else None
    return ColumnFit(source.name, True, fit(source.type, source_labels, target, labels))


def required_columns(entry: TableEntry, table: Table) -> tuple[DriftProblem, ...]:
    """Columns that every row here must have, without a default, and that the bundle does not bring."""
    brought = {column.name for column in entry.columns}
    return tuple(
        DriftProblem(
            entry.table, column.name, "required-column", entry.rows, "is required here and missing in the bundle"
        )
        for column in table.columns
        if not column.fills_itself and column.name not in brought
    )


def misfit(entry: TableEntry, column: ColumnFit, rows: int) -> DriftProblem:
    """Rows whose value in ``column`` has no place here."""
    what = "value" if column.known else "missing-column"
    return DriftProblem(entry.table, column.name, what, rows, column.fit.problem)


def null_in_required(entry: TableEntry, column: str, rows: int) -> DriftProblem:
    """Rows with no value in a column that is required here."""
    return DriftProblem(entry.table, column, "null", rows, "is required here and empty in the bundle")
