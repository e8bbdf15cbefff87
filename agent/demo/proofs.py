"""What the demo proves by looking into the two databases itself, past all of Backroom's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from agent.database.names import column_list, qualified, quote
from agent.database.reflect import reflect
from agent.tables.catalogue import TableClass, load_catalogue
from agent.tables.infer import classify


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The rows of every device table, as text, and the platform's own node IDs among them."""

    rows: dict[str, frozenset[str]]

    def added(self, later: DeviceState) -> dict[str, int]:
        """How many rows of each table are in ``later`` alone."""
        more = {table: len(later.rows[table] - rows) for table, rows in self.rows.items()}
        return {table: number for table, number in more.items() if number}

    def lost(self, later: DeviceState) -> dict[str, int]:
        """How many rows of each table are no longer there, or not as they were."""
        return later.added(self)


async def device_state(dsn: str) -> DeviceState:
    """The device tables of a laptop as they are now."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        schema = await reflect(connection)
        tables = classify(schema, load_catalogue()).of_class(TableClass.DEVICE)
        rows = {}
        for name in tables:
            found = await connection.fetch(f"SELECT t::text AS row FROM {qualified(schema.tables[name])} t")
            rows[name] = frozenset(row["row"] for row in found)
        return DeviceState(rows)
    finally:
        await connection.close()


async def rows_of_business(dsn: str, business: str) -> dict[str, int]:
    """How many rows carry this business's id in a ``businessId`` column, by table."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        schema = await reflect(connection)
        found = {}
        for name, table in schema.tables.items():
            if table.column("businessId"):
                where = f"WHERE {quote('businessId')} = $1"
                number = await connection.fetchval(f"SELECT count(*) FROM {qualified(table)} {where}", business)
                if number:
                    found[name] = number
        return found
    finally:
        await connection.close()


async def same_rows(ours: str, theirs: str, business: str) -> tuple[int, dict[str, int]]:
    """Rows with this ``businessId`` on the first laptop, and by table how many of them are not equal on the second.

    References into device tables that may be empty are left out: each laptop has its own.
    """
    here: Any = await asyncpg.connect(ours)
    there: Any = await asyncpg.connect(theirs)
    try:
        schema = await reflect(here)
        classification = classify(schema, load_catalogue())
        devices = set(classification.of_class(TableClass.DEVICE))
        total = 0
        different = {}
        for name in classification.of_class(TableClass.BUSINESS):
            table = schema.tables[name]
            if not table.column("businessId"):
                continue
            local = {column for key in table.foreign_keys if key.references in devices for column in key.columns}
            columns = column_list(column.name for column in table.stored_columns if column.name not in local)
            query = f"SELECT ROW({columns})::text AS row FROM {qualified(table)} WHERE {quote('businessId')} = $1"
            left = {row["row"] for row in await here.fetch(query, business)}
            right = {row["row"] for row in await there.fetch(query, business)}
            total += len(left)
            if left - right:
                different[name] = len(left - right)
        return total, different
    finally:
        await here.close()
        await there.close()
