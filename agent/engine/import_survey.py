"""The first reading of a platform backup file: what it holds, and everything in it that does not fit here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from agent.engine.json_names import tables_by_key
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Column, Schema, Table
from protocol.manifest import ColumnEntry
from protocol.platform_json.errors import NotAPlatformFile, PlatformFileTooLarge, ValueMisfit
from protocol.platform_json.from_json import FieldReader, field_reader
from protocol.platform_json.json_text import Value
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.metadata import Metadata
from protocol.platform_json.reader import DEVICE, Event, MetadataRead, RowsRead, TableRead
from protocol.platform_json.types import PgType

_SHAPES_KEPT = 1_000
_MISFITS_SHOWN = 20


def column_reader(column: Column, schema: Schema) -> FieldReader:
    """The reader for values of a live column."""
    labels = schema.enums.get(column.enum) if column.enum else None
    return field_reader(ColumnEntry(column.name, column.type, column.enum), labels)


def holds_json(column: Column) -> bool:
    """Whether JSON's null is a value of the column, so that the database's NULL is left out of the file."""
    return column.enum is None and PgType.parse(column.type).is_json


@dataclass(slots=True)
class TableFound:
    """One table of the file. ``table`` is the live one (None: unknown); ``unknown`` counts values of columns that it
    does not have; ``ids`` are those of its rows, in the table of businesses alone."""

    section: str
    key: str
    table: Table | None
    table_class: TableClass | None
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    _after: dict[str, set[str]] = field(default_factory=dict)
    _shapes: set[tuple[str, ...]] = field(default_factory=set)

    def shape(self, keys: tuple[str, ...], limits: FileLimits) -> None:
        """Note in which order a row has its columns."""
        if keys in self._shapes:
            return
        if len(self._shapes) >= _SHAPES_KEPT:
            self._shapes.clear()
        self._shapes.add(keys)
        self.columns.update(dict.fromkeys(keys))
        if len(self.columns) > limits.columns:
            raise PlatformFileTooLarge(f"Rows of {self.key[:60]!r} have more than {limits.columns} columns.")
        for before, after in pairwise(keys):
            self._after.setdefault(after, set()).add(before)

    def order(self) -> tuple[str, ...]:
        """The columns in an order in which every row has its own; where there is none, as they came."""
        place = {name: number for number, name in enumerate(self.columns)}
        sorter = TopologicalSorter({name: self._after.get(name, set()) for name in self.columns})
        try:
            sorter.prepare()
        except CycleError:
            return tuple(self.columns)
        ordered: list[str] = []
        ready: set[str] = set()
        while sorter.is_active():
            ready.update(sorter.get_ready())
            name = min(ready, key=place.__getitem__)
            ready.remove(name)
            ordered.append(name)
            sorter.done(name)
        return tuple(ordered)


class Survey:
    """Takes the events of a whole file. Misfits, unknown tables and columns are collected, not raised."""

    def __init__(
        self, schema: Schema, classification: Classification, limits: FileLimits = DEFAULT_FILE_LIMITS
    ) -> None:
        self.metadata: Metadata | None = None
        self.tables: list[TableFound] = []
        self.misfits: Counter[tuple[str, str, str]] = Counter()
        self.wrote_null = False
        self.rows = 0
        self.names: dict[str, str] = {}
        self._schema = schema
        self._classification = classification
        self._limits = limits
        self._tables = tables_by_key(classification.rules)
        self._readers: dict[str, tuple[FieldReader | None, bool]] = {}

    def take(self, events: Iterable[Event]) -> None:
        """Raises ``NotAPlatformFile`` or ``PlatformFileTooLarge``."""
        for event in events:
            match event:
                case MetadataRead(metadata):
                    self.metadata = metadata
                case TableRead(section, key):
                    self._table(section, key)
                case RowsRead(rows):
                    self._rows(self.tables[-1], rows)

    def _table(self, section: str, key: str) -> None:
        name = self._tables.get(key)
        table = self._schema.tables[name] if name else None
        rule = self._classification.rules.get(name) if name else None
        if table and any(each.table is table and each.section == section for each in self.tables):
            raise NotAPlatformFile(f"The file has the table {name} twice, under two names.")
        self.tables.append(TableFound(section, key, table, rule.table_class if rule else None))
        self._readers = {}
        for column in table.columns if table else ():
            self._readers[column.name] = (column_reader(column, self._schema), holds_json(column))

    def _rows(self, found: TableFound, rows: list[dict[str, Value]]) -> None:
        found.rows += len(rows)
        self.rows += len(rows)
        if found.table is None or found.section == DEVICE:
            return
        businesses = found.table.name == self._classification.businesses
        for row in rows:
            found.shape(tuple(row), self._limits)
            if businesses:
                self._business(found, row)
            for name, value in row.items():
                read, json_null = self._readers.get(name, (None, False))
                if value is None and not json_null:
                    self.wrote_null = True
                elif read is None:
                    found.unknown[name] += 1
                else:
                    try:
                        read(value)
                    except ValueMisfit as misfit:
                        self._misfit(found.table.name, name, misfit.reason)

    def _business(self, found: TableFound, row: dict[str, Value]) -> None:
        number, name = row.get("id"), row.get("name")
        if len(found.ids) < self._limits.containers:
            found.ids.append(number if isinstance(number, str) else "")
            if isinstance(number, str) and isinstance(name, str):
                self.names[number] = name

    def _misfit(self, table: str, column: str, reason: str) -> None:
        key = (table, column, reason)
        if key in self.misfits or len(self.misfits) < 10 * _MISFITS_SHOWN:
            self.misfits[key] += 1

    def misfit_lines(self) -> list[str]:
        """The misfits by column, the first reason of each with how many values it concerns."""
        columns: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for (table, column, reason), values in self.misfits.items():
            columns.setdefault((table, column), []).append((reason, values))
        lines = []
        for (table, column), reasons in columns.items():
            total = sum(values for _, values in reasons)
            more = f" ({total} values)" if total > 1 else ""
            lines.append(f"{table}.{column} {reasons[0][0]}{more}")
        return lines[:_MISFITS_SHOWN]
