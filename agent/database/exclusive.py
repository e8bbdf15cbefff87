"""Waiting for tables: one restore at a time, and never while holding what the platform waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence

import asyncpg

from agent.database.errors import DatabaseError, LockTimeout
from agent.database.names import qualified
from agent.tables.schema import Table

LOCK_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_ENDING_SECONDS = 2.0
# Longer than the second after which a server looks who is in the way, short for those who queue behind us.
_WAIT_MILLISECONDS = 1500
_WRITERS, _EVERYBODY = "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"
_ONE_AT_A_TIME = int.from_bytes(b"backroom", "big")


class RestoreRunning(DatabaseError):
    code = "restore-running"
    hint = "Wait until the other restore has ended, then try again."


async def one_at_a_time(connection: asyncpg.Connection) -> None:
    """Hold the right to restore into this database until the transaction ends. Raises :class:`RestoreRunning`.

    One that was broken off holds it until the server has noticed, so it is asked for again for a moment.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ONE_AT_A_TIME):
        if time.monotonic() > deadline:
            raise RestoreRunning("Another restore into this database is running.")
        await asyncio.sleep(_PAUSE_SECONDS)


async def hold_tables(
    connection: asyncpg.Connection,
    tables: Iterable[Table],
    *,
    exclusive: Collection[str] = (),
    seconds: float = LOCK_SECONDS,
) -> None:
    """Keep others from writing to these tables until the transaction ends; they may read, but not the ``exclusive``
    ones (SQL names), which are held as well.

    All tables are taken at once or none: nothing is held while waiting, so the platform's transactions never wait for
    us in a circle. Raises :class:`LockTimeout` after so many seconds.
    """
    modes = {qualified(table): _WRITERS for table in sorted(tables, key=lambda table: table.name)}
    modes |= dict.fromkeys(sorted(exclusive), _EVERYBODY)
    names = list(modes)
    deadline = time.monotonic() + seconds
    first: str | None = None
    while True:
        # The table that was in the way is waited for before anything else is taken. Waiting, not asking again and
        # again, is also what makes the server cancel an autovacuum of it.
        order = names if first is None else [first, *(name for name in names if name != first)]
        blocked = await _take(connection, [(name, modes[name]) for name in order], wait=first is not None)
        if blocked is None:
            return
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"The restore waited {seconds:.0f} seconds for the platform's open transactions on "
                f"{blocked} and then gave up. Nothing was changed.",
                "Wait for the platform to finish its work (a report, an import, a migration), then try again.",
            )
        first = blocked
        await asyncio.sleep(_PAUSE_SECONDS)


async def _take(connection: asyncpg.Connection, tables: Sequence[tuple[str, str]], *, wait: bool) -> str | None:
    """Take all locks, with ``wait`` waiting a moment for the first; where one is not free, none. Returns that one."""
    await connection.execute("SAVEPOINT backroom_lock")
    for place, (name, mode) in enumerate(tables):
        try:
            if wait and place == 0:
                await connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MILLISECONDS}")
                await connection.execute(f"LOCK TABLE {name} IN {mode} MODE")
            else:
                await connection.execute(f"LOCK TABLE {name} IN {mode} MODE NOWAIT")
        except asyncpg.LockNotAvailableError:
            # Left open, all that is written later would be a subtransaction's, with another id in the rows.
            await connection.execute("ROLLBACK TO SAVEPOINT backroom_lock; RELEASE SAVEPOINT backroom_lock")
            return name
    await connection.execute("RELEASE SAVEPOINT backroom_lock; SET LOCAL lock_timeout = '10s'")
    return None
