"""Another connection that sees what a snapshot sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from agent.database.connect import connect
from agent.database.errors import DatabaseError
from agent.database.names import literal, qualified
from agent.database.snapshot import Snapshot, close


async def export_snapshot(snapshot: Snapshot) -> str:
    """The name under which other connections find the snapshot, as long as it is held."""
    name: str = await snapshot.connection.fetchval("SELECT pg_export_snapshot()")
    return name


@asynccontextmanager
async def beside(
    url: str, snapshot: Snapshot, exported: str, tables: Sequence[str], *, doing: str
) -> AsyncIterator[asyncpg.Connection | None]:
    """A connection that sees the snapshot's rows, and none of its temporary tables, with its own locks on ``tables``.

    None where there is none to be had (a limit of connections, a proxy before the server, somebody who waits to lock a
    table): whoever asks has a connection already, and reads by that alone. It is closed in every case.
    """
    try:
        connection = await connect(url, application_name=f"backroom: {doing.lower()}, second reader")
    except DatabaseError:
        yield None
        return
    try:
        yield connection if await _joined(connection, snapshot, exported, tables) else None
    finally:
        await close(connection)


async def _joined(connection: asyncpg.Connection, snapshot: Snapshot, exported: str, tables: Sequence[str]) -> bool:
    """Whether the connection is in the snapshot now and holds its locks."""
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute(f"SET TRANSACTION SNAPSHOT {literal(exported)}")
        if tables:
            # Without waiting: who waits for the first connection's locks would be waited for here, without end.
            relations = ", ".join(qualified(snapshot.schema.tables[name]) for name in tables)
            await connection.execute(f"LOCK TABLE {relations} IN ACCESS SHARE MODE NOWAIT")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False
    return True
