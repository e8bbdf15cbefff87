"""Reading and writing records: what the history's tables have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.archive.errors import NoSuchRecordError
from agent.archive.sql import Record, Sql, Table, is_
from agent.archive.storage import Database
from agent.home import Home


class Store:
    """Records in the history database."""

    def __init__(self, home: Home, database: Database) -> None:
        self._home = home
        self._database = database

    async def _insert(self, table: Table[Record], record: Record) -> Record:
        statement = table.insert(record)
        await self._database.run(lambda connection: connection.execute(statement), write=True)
        return record

    async def _change(self, table: Table[Record], row_id: str, changes: Mapping[str, Any]) -> None:
        statement = table.update(changes, is_("id", row_id))
        answer = await self._database.run(lambda connection: connection.execute(statement), write=True)
        if answer.changed == 0:
            raise missing(table.name.removesuffix("s"), row_id)

    async def _select(self, table: Table[Record], statement: Sql) -> tuple[Record, ...]:
        return table.records(await self._rows(statement))

    async def _one(self, table: Table[Record], row_id: str) -> Record | None:
        found = await self._select(table, table.select(is_("id", row_id), newest="id"))
        return found[0] if found else None

    async def _changed(self, table: Table[Record], row_id: str, changes: Mapping[str, Any]) -> Record:
        """Change a record and read it again."""
        await self._change(table, row_id, changes)
        changed = await self._one(table, row_id)
        if changed is None:
            raise missing(table.name.removesuffix("s"), row_id)
        return changed

    async def _rows(self, statement: Sql) -> list[Any]:
        return (await self._database.run(lambda connection: connection.execute(statement))).rows


def missing(what: str, row_id: str) -> NoSuchRecordError:
    """The error for a record that is not there."""
    return NoSuchRecordError(f"The history has no {what} {row_id!r}.", "See `backroom history`.")


def given(values: Mapping[str, object]) -> dict[str, object]:
    """``values`` without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


def ended(state: str, error_code: str | None, error: str | None) -> dict[str, object]:
    """The column values of work that has ended now."""
    return {"state": state, "error_code": error_code, "error": error, "ended_at": datetime.now(UTC), "owner": None}
