"""The history database's engine: SQLite by default, any SQLAlchemy URL; brought to the newest schema when opened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from agent.archive.errors import HistoryError, HistoryTooNewError
from agent.archive.schema import HEAD
from agent.home import Home
from agent.locks import FileLock

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}
_BUSY_SECONDS = 30.0
_VERSIONS = "backroom_history_version"
_WRITE = "backroom_write"


async def open_engine(home: Home, url: str | None = None) -> AsyncEngine:
    """An engine on the history database, migrated. Raises :class:`HistoryError` with no secret in its text."""
    await asyncio.to_thread(home.ensure)
    parsed = _url(home, url)
    engine = _engine(parsed)
    try:
        version = await _version(engine)
        if version != HEAD:
            await asyncio.to_thread(_migrate, home, parsed)
    except HistoryError:
        await engine.dispose()
        raise
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        raise failure(error, parsed) from error
    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The engine for transactions that write: SQLite takes its write lock at their start, waiting for others."""
    return engine.execution_options(**{_WRITE: True})


def failure(error: Exception, url: URL) -> HistoryError:
    """The archive's own error for one of the database or its driver."""
    reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    shown = url.render_as_string(hide_password=True)
    return HistoryError(
        f"The history database {shown} cannot be used: {reason.splitlines()[0] if reason else type(error).__name__}.",
        "Check the disk and the rights of the file, or `history_url` in config.toml.",
    )


def _url(home: Home, url: str | None) -> URL:
    if url is None:
        return URL.create("sqlite+aiosqlite", database=str(home.history))
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise HistoryError(
            "The address of the history database is not a URL.", "Correct `history_url` in config.toml."
        ) from None
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def _engine(url: URL, *, set_up: bool = False) -> AsyncEngine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_async_engine(url, pool_pre_ping=True)
        engine = create_async_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    except (NoSuchModuleError, ImportError, ArgumentError) as error:
        raise HistoryError(
            f"The history database needs a driver that is not here: {error}.",
            "Install it, or take `history_url` out of config.toml to use the built-in SQLite.",
        ) from error

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, DDL included
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")
        if set_up:  # kept in the file; readers and the one writer then do not wait for each other
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


async def _version(engine: AsyncEngine) -> str | None:
    """The database's schema version, ``None`` for an empty one."""
    async with engine.connect() as connection:
        try:
            return (await connection.execute(text(f"SELECT version_num FROM {_VERSIONS}"))).scalar_one_or_none()
        except DBAPIError as error:
            reason = str(error.orig).lower()
            if "no such table" in reason or "does not exist" in reason or "doesn't exist" in reason:
                return None
            raise


def _migrate(home: Home, url: URL) -> None:
    """Bring the database to the newest schema: in a thread with a loop of its own, one process of a home at a time."""
    lock = FileLock(home.state / "history.lock")
    deadline = time.monotonic() + 2 * _BUSY_SECONDS
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise HistoryError(
                "Another Backroom has been upgrading the history database for a minute.", "Wait for it, then try again."
            )
        time.sleep(0.05)
    with lock:
        asyncio.run(_upgrade(url))


async def _upgrade(url: URL) -> None:
    engine = _engine(url, set_up=True)
    try:
        async with writing(engine).begin() as connection:
            await connection.run_sync(_run_alembic)
    finally:
        await engine.dispose()


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = _VERSIONS
    current = MigrationContext.configure(connection, opts={"version_table": _VERSIONS}).get_current_revision()
    if current is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(current)
        except CommandError:
            raise HistoryTooNewError(
                f"The history database has version {current}, which this Backroom ({HEAD}) does not know.",
                "Install the newer Backroom that made it.",
            ) from None
    with contextlib.redirect_stdout(None):
        command.upgrade(config, "head")
