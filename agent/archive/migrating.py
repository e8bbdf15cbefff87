"""Brings a history database to the newest schema, by Alembic; imported only where it is not there already."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from agent.archive.elsewhere import engine, parsed
from agent.archive.errors import HistoryTooNewError
from agent.archive.storage import BUSY_SECONDS, HEAD, VERSIONS, begin, failure, set_up, upgrading
from agent.home import Home


def migrate(home: Home, url: str | None) -> None:
    """Upgrade the tables, one process of a home at a time. Blocking; no event loop may run in this thread.

    Raises :class:`HistoryError`.
    """
    address = URL.create("sqlite", database=str(home.history)) if url is None else parsed(url)
    with upgrading(home):
        try:
            if address.get_backend_name() == "sqlite":
                _upgrade_file(address.set(drivername="sqlite"))
            else:
                asyncio.run(_upgrade(address))
        except (SQLAlchemyError, OSError) as error:
            reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            raise failure(address.render_as_string(hide_password=True), reason) from error


def _upgrade_file(address: URL) -> None:
    there = create_engine(address, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(there, "connect")
    def _connect(connection: Any, _record: object) -> None:
        begin(connection)
        set_up(connection)

    @event.listens_for(there, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with there.begin() as connection:
            _run_alembic(connection)
    finally:
        there.dispose()


async def _upgrade(address: URL) -> None:
    there = engine(address)
    try:
        async with there.begin() as connection:
            await connection.run_sync(_run_alembic)
    finally:
        await there.dispose()


def _run_alembic(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSIONS
    current = MigrationContext.configure(connection, opts={"version_table": VERSIONS}).get_current_revision()
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
