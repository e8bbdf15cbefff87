"""A connection of its own in one writing transaction, which is rolled back unless it is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import asyncpg

from agent.database.connect import connect
from agent.database.errors import ConnectionLost, DatabaseError, translating

Connection: TypeAlias = asyncpg.Connection
"""What the engine hands to the functions of this package; it never looks inside."""

_CLOSE_SECONDS = 5
OUTCOME_SECONDS = 30.0
# Staging lives in temporary tables; the default of 8 MB makes their pages go to disk one by one.
_TEMPORARY_BUFFERS = "32MB"


class Isolation(StrEnum):
    """What a transaction sees: one moment, or what is committed before each statement."""

    ONE_MOMENT = "REPEATABLE READ"
    COMMITTED = "READ COMMITTED"


class CommitUnknown(DatabaseError):
    code = "commit-unknown"
    hint = "Once the database answers again, `backroom history` says what became of it. All of it is there, or nothing."


class RowsRefused(DatabaseError):
    code = "rows-refused"
    hint = "A rule of this database forbids a row of the bundle. Look at the named constraint; nothing was changed."


@asynccontextmanager
async def open_transaction(url: str, isolation: Isolation, *, doing: str) -> AsyncIterator[Connection]:
    """A connection in a transaction; ``doing`` starts error sentences ("The restore").

    However the block ends, by error or cancellation, the connection is closed and the server rolls back what was not
    committed (:func:`commit`). An interrupted COPY leaves a connection that would hang at its next statement, so
    nothing is said on it again. Raises errors of ``agent.database.errors`` and :class:`RowsRefused`.
    """
    with translating(doing), _refusing_rows(doing):
        connection = await connect(url, application_name=f"backroom: {doing.lower()}")
        try:
            await connection.execute(f"SET temp_buffers = '{_TEMPORARY_BUFFERS}'")
            await connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            yield connection
            # What was to last has been committed: a connection that breaks only now is no failure.
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.close(timeout=_CLOSE_SECONDS)
        finally:
            if not connection.is_closed():
                connection.terminate()


@dataclass(frozen=True, slots=True)
class Begun:
    """The id of a transaction that writes, as text, by which :func:`outcome` knows it for ever after; ``both`` has it
    and that of the other one, which brought it to the disk and has ended."""

    id: str
    both: frozenset[int]


async def transaction_id(connection: Connection, url: str) -> Begun:
    """The id of this transaction.

    An id that is only in the server's memory is given out again after a crash. So the log of the server is brought to
    the disk, by the commit of a message in another connection: from then on nobody else can have the id.
    """
    transaction = str(await connection.fetchval("SELECT pg_current_xact_id()::text"))
    await connection.execute("SELECT pg_logical_emit_message(true, 'backroom', 'writing')")
    beside = await connect(url, application_name="backroom: flushing the log")
    try:
        flushed = await beside.fetchval(
            "SELECT pg_current_xact_id()::text FROM pg_logical_emit_message(true, 'backroom', 'flush')"
        )
    finally:
        await beside.close(timeout=_CLOSE_SECONDS)
    return Begun(transaction, frozenset((int(transaction), int(flushed))))


async def commit(connection: Connection) -> None:
    """Make everything that was written in the transaction last."""
    await connection.execute("COMMIT")


async def commit_surely(connection: Connection, url: str, transaction: str) -> None:
    """Make everything that was written in the transaction last.

    A connection that breaks just now leaves it open whether the server has committed: the server is asked. Raises
    ``ConnectionLost`` where it has not, :class:`CommitUnknown` where it cannot be asked.
    """
    try:
        await commit(connection)
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InterfaceError,
        OSError,
    ) as error:
        connection.terminate()
        if not await outcome(url, transaction, within=OUTCOME_SECONDS):
            raise ConnectionLost("The connection to the database was lost before it committed.") from error


async def outcome(url: str, transaction: str, *, within: float = 0.0) -> bool:
    """Whether the database has committed the transaction, asked for up to ``within`` seconds.

    Raises :class:`CommitUnknown` while it cannot be told: the server does not answer, is still at it, or has
    forgotten (which takes many millions of transactions).
    """
    deadline = time.monotonic() + within
    while True:
        try:
            connection = await connect(url, application_name="backroom: asking for an outcome")
            try:
                status = await connection.fetchval("SELECT pg_xact_status($1::text::xid8)", transaction)
            finally:
                await connection.close(timeout=_CLOSE_SECONDS)
            why = f"it says {status!r}" if status else "it no longer knows"
            if status in {"committed", "aborted"}:
                return bool(status == "committed")
        except asyncpg.InvalidParameterValueError:
            # An id that the server has not given out yet: it went back behind the transaction, so that never was.
            return False
        except (DatabaseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            why = str(error)
        if time.monotonic() >= deadline:
            raise CommitUnknown(f"The database cannot tell whether the changes were committed: {why}.")
        await asyncio.sleep(0.5)


@contextmanager
def _refusing_rows(doing: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        where = f" of {error.table_name}" if error.table_name else ""
        # Which key is missing is worth knowing. Of others the server tells values: for a CHECK the whole row, with all
        # that it says of a person, and this text goes to logs and mails.
        told = error.detail if isinstance(error, asyncpg.ForeignKeyViolationError) else None
        detail = f" {told}" if told else ""
        raise RowsRefused(f"{doing} stopped: the database refused a row{where}: {error.args[0]}.{detail}") from error
