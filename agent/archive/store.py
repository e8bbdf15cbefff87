"""Reading and writing records: what the history's three tables have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, or_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.archive.errors import NoSuchRecordError
from agent.archive.records import BackupRecord, DrillRecord, RestoreRecord, RunRecord, TransferRecord
from agent.archive.storage import failure, writing
from agent.home import Home

Record = TypeVar("Record", BackupRecord, TransferRecord, RestoreRecord, DrillRecord, RunRecord)


class Store:
    """Transactions on the history database, with the archive's own errors."""

    def __init__(self, home: Home, engine: AsyncEngine) -> None:
        self._home = home
        self._engine = engine

    async def _change(self, table: Table, row_id: str, values: Mapping[str, Any]) -> None:
        async with self._writing() as connection:
            changed = await connection.execute(update(table).where(table.c.id == row_id).values(**values))
        if changed.rowcount == 0:
            raise missing(table.name.removesuffix("s"), row_id)

    async def _select(self, kind: type[Record], query: Select[Any]) -> tuple[Record, ...]:
        async with self._reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(kind(**row) for row in rows)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise failure(error, self._engine.url) from error

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with writing(self._engine).begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise failure(error, self._engine.url) from error


def values(record: BackupRecord | TransferRecord | RestoreRecord | DrillRecord | RunRecord) -> dict[str, Any]:
    """The record's fields as column values (mappings as plain dictionaries, for JSON)."""
    columns = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in columns.items()}


def equal(column: ColumnElement[Any], value: object) -> list[ColumnElement[bool]]:
    """The condition that ``column`` is ``value``; none for ``None``."""
    return [] if value is None else [column == value]


def either(column: ColumnElement[Any], other: ColumnElement[Any], value: str | None) -> list[ColumnElement[bool]]:
    """The condition that one of two columns (an ID and a name) is ``value``; none for ``None``."""
    return [] if value is None else [or_(column == value, other == value)]


def between(column: ColumnElement[Any], since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """The conditions that ``since`` <= ``column`` < ``until``, as far as given."""
    return [*([] if since is None else [column >= since]), *([] if until is None else [column < until])]


def missing(what: str, row_id: str) -> NoSuchRecordError:
    """The error for a record that is not there."""
    return NoSuchRecordError(f"The history has no {what} {row_id!r}.", "See `backroom history`.")


def given(values: Mapping[str, object]) -> dict[str, object]:
    """``values`` without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


def ended(state: str, error_code: str | None, error: str | None) -> dict[str, object]:
    """The column values of work that has ended now."""
    return {"state": state, "error_code": error_code, "error": error, "ended_at": datetime.now(UTC), "owner": None}
