"""A history in another database than SQLite, through SQLAlchemy and that database's asyncio driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from agent.archive.errors import HistoryError
from agent.archive.sql import Sql
from agent.archive.storage import Answer, Connection, failure

T = TypeVar("T")

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}


def parsed(url: str) -> URL:
    """The address, with the driver that is used for it. Raises :class:`HistoryError` where it is none."""
    try:
        address = make_url(url)
        address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
        address.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        reason = "is not a URL" if isinstance(error, ArgumentError) else "is of a kind that SQLAlchemy does not know"
        raise HistoryError(
            f"The address of the history database {reason}.", "Correct `history_url` in config.toml."
        ) from None
    return address


def engine(address: URL) -> AsyncEngine:
    """An engine on that database. Raises :class:`HistoryError` where its driver is missing."""
    try:
        return create_async_engine(address, pool_pre_ping=True)
    except (ImportError, SQLAlchemyError) as error:
        raise HistoryError(
            f"The history database needs a driver that is not here: {error}.",
            "Install it, or take `history_url` out of config.toml to use the built-in SQLite.",
        ) from error


class Elsewhere:
    """The database at an address."""

    def __init__(self, address: URL) -> None:
        self.shown = address.render_as_string(hide_password=True)
        self._engine = engine(address)

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        del write  # such databases find out by themselves
        try:
            async with self._engine.begin() as connection:
                return await connection.run_sync(lambda plain: work(_Connection(plain)))
        except (SQLAlchemyError, OSError) as error:
            raise failure(self.shown, str(error.orig) if isinstance(error, DBAPIError) else str(error)) from error

    async def close(self) -> None:
        await self._engine.dispose()


class _Connection:
    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection
        self._quote = connection.dialect.identifier_preparer.initial_quote

    def execute(self, statement: Sql) -> Answer:
        pieces = statement.text.replace('"', self._quote).split("?")
        names = [f"p{number}" for number in range(len(statement.values))]
        text = pieces[0] + "".join(f":{name}{piece}" for name, piece in zip(names, pieces[1:], strict=True))
        result = self._connection.execute(sqlalchemy.text(text), dict(zip(names, statement.values, strict=True)))
        return Answer(list(result.all()) if result.returns_rows else [], result.rowcount)
