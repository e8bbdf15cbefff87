"""Waiting for tables: one restore at a time, and never while holding what the platform waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import asyncpg

from agent.database.errors import DatabaseError, LockTimeout
from agent.database.names import qualified
from agent.tables.schema import Table

LOCK_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_ONE_AT_A_TIME = int.from_bytes(b"backroom", "big")


class RestoreRunning(DatabaseError):
    code = "restore-running"
    hint = "Wait until the other restore has ended, then try again."


async def one_at_a_time(connection: asyncpg.Connection) -> None:
    """Hold the right to restore into this database until the transaction ends. Raises :class:`RestoreRunning`."""
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME):
        raise RestoreRunning("Another restore into this database is running.")


async def hold_tables(connection: asyncpg.Connection, tables: Iterable[Table]) -> None:
    """Keep others from writing to these tables until the transaction ends; they may read.

    All tables are taken at once or none: nothing is held while waiting, so the platform's transactions never wait for
    us in a circle. Raises :class:`LockTimeout` after :data:`LOCK_SECONDS`.
    """
    names = ", ".join(qualified(table) for table in sorted(tables, key=lambda table: table.name))
    if not names:
        return
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            await connection.execute("SAVEPOINT backroom_lock")
            await connection.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE NOWAIT")
            return
        except asyncpg.LockNotAvailableError as error:
            await connection.execute("ROLLBACK TO SAVEPOINT backroom_lock")
            if time.monotonic() > deadline:
                raise LockTimeout(
                    f"The restore waited {LOCK_SECONDS:.0f} seconds for the platform's open transactions and then "
                    f"gave up ({error}). Nothing was changed.",
                    "Wait for the platform to finish its work (a report, an import, a migration), then try again.",
                ) from error
        await asyncio.sleep(_RETRY_SECONDS)
