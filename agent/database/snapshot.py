"""One read-only snapshot of the platform's database, with its schema known to be the schema of the snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from agent.database.connect import connect
from agent.database.errors import LockTimeout, NoRights, SchemaChanged, translating
from agent.database.names import qualified
from agent.database.reflect import read_catalog, schema_of
from agent.database.scope import prepare_scope
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification, classify
from agent.tables.schema import Schema

_TRIES = 3
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection in a ``REPEATABLE READ READ ONLY`` transaction that holds ACCESS SHARE locks on what it reads."""

    connection: asyncpg.Connection
    schema: Schema
    classification: Classification
    server_version: str


@asynccontextmanager
async def open_snapshot(
    url: str,
    catalogue: Catalogue,
    reads: Callable[[Classification], Iterable[str]],
    *,
    doing: str,
) -> AsyncIterator[Snapshot]:
    """A snapshot with the scope table ready. ``reads`` names the tables to be read; ``doing`` starts error sentences.

    Like pg_dump it locks the tables before the snapshot is taken: a table that is rewritten or truncated meanwhile
    would look empty in it. Raises errors of ``agent.database.errors``; the connection is closed in every case.
    """
    connection = await connect(url, application_name=f"backroom: {doing.lower()}")
    try:
        with translating(doing):
            snapshot = await _begin(connection, catalogue, reads, doing)
            yield snapshot
    finally:
        await close(connection)


async def close(connection: asyncpg.Connection) -> None:
    """End the transaction with the connection. No failure here makes what was read less true.

    Where a statement is under way, closing tells the server to stop it: it would go on and hold its locks.
    """
    with suppress(Exception):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.close()
    if not connection.is_closed():
        connection.terminate()


async def _begin(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    reads: Callable[[Classification], Iterable[str]],
    doing: str,
) -> Snapshot:
    try:
        return await _locked_snapshot(connection, catalogue, reads, doing)
    except asyncpg.LockNotAvailableError as error:
        await connection.execute("ROLLBACK")
        held = await _locked_by(connection)
        raise LockTimeout(f"{doing} stopped: another program has locked {held or 'a table'}.") from error


async def _locked_snapshot(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    reads: Callable[[Classification], Iterable[str]],
    doing: str,
) -> Snapshot:
    for _ in range(_TRIES):
        found = await read_catalog(connection)
        before = schema_of(found)
        classification = classify(before, catalogue)
        names = sorted(reads(classification))
        _check_readable(before, names, doing)
        await prepare_scope(connection)
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        relations = ", ".join(qualified(before.tables[name]) for name in names)
        try:
            if names:
                await connection.execute(f"LOCK TABLE {relations} IN ACCESS SHARE MODE")
            again = await read_catalog(connection)
            schema = before if again == found else schema_of(again)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            schema = None
        if schema and (schema is before or schema.fingerprint() == before.fingerprint()):
            version = ".".join(str(part) for part in connection.get_server_version()[:2])
            return Snapshot(connection, schema, classification, version)
        await connection.execute("ROLLBACK")
    raise SchemaChanged(f"{doing} stopped: the schema of the database keeps changing.")


def _check_readable(schema: Schema, names: Iterable[str], doing: str) -> None:
    closed = [name for name in names if not schema.tables[name].readable]
    if closed:
        shown = ", ".join(closed[:10]) + (f" and {len(closed) - 10} more" if len(closed) > 10 else "")
        raise NoRights(f"{doing} failed: the database user may not read {shown}.")


async def _locked_by(connection: asyncpg.Connection) -> str:
    """The tables under an exclusive lock and the programs that hold it or wait for it, as far as this user sees them.

    Who waits counts too: readers that come later queue behind.
    """
    rows = await connection.fetch(
        "SELECT DISTINCT c.relname, a.application_name, l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.mode = 'AccessExclusiveLock' "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND c.relkind IN ('r', 'p') AND l.pid <> pg_backend_pid() ORDER BY c.relname, l.pid LIMIT 10"
    )
    return ", ".join(
        f"{row['relname']} ({row['application_name'] or 'unknown program'}, process {row['pid']})" for row in rows
    )
