"""A connection of its own in one writing transaction, which is rolled back unless it is committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import TypeAlias

import asyncpg

from agent.database.connect import connect
from agent.database.errors import DatabaseError, translating

Connection: TypeAlias = asyncpg.Connection
"""What the engine hands to the functions of this package; it never looks inside."""

_CLOSE_SECONDS = 5
# Staging lives in temporary tables; the default of 8 MB makes their pages go to disk one by one.
_TEMPORARY_BUFFERS = "32MB"


class Isolation(StrEnum):
    """What a transaction sees: one moment, or what is committed before each statement."""

    ONE_MOMENT = "REPEATABLE READ"
    COMMITTED = "READ COMMITTED"


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
            await connection.close(timeout=_CLOSE_SECONDS)
        finally:
            if not connection.is_closed():
                connection.terminate()


async def commit(connection: Connection) -> None:
    """Make everything that was written in the transaction last."""
    await connection.execute("COMMIT")


@contextmanager
def _refusing_rows(doing: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        where = f" of {error.table_name}" if error.table_name else ""
        detail = f" {error.detail}" if error.detail else ""
        raise RowsRefused(f"{doing} stopped: the database refused a row{where}: {error.args[0]}.{detail}") from error
