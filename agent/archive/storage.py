"""The history database: SQLite by default, by Python's own module; any other by :mod:`agent.archive.elsewhere`.

SQLAlchemy is imported for others and for migrations alone: it is half of the time that a command takes to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from agent.archive.errors import HistoryError
from agent.archive.sql import Sql
from agent.home import Home
from agent.locks import FileLock

if TYPE_CHECKING:
    from agent.archive.elsewhere import Elsewhere

T = TypeVar("T")

HEAD = "0003"
"""The version of the schema that this code reads: the newest migration (held by a test)."""
VERSIONS = "backroom_history_version"
BUSY_SECONDS = 30.0


class Answer(NamedTuple):
    """What a statement brought: its rows, and how many it changed."""

    rows: list[Any]
    changed: int


class Connection(Protocol):
    """A transaction on the history database."""

    def execute(self, statement: Sql) -> Answer:
        """Run one statement. Blocking."""


class Database(Protocol):
    """Where the history is. Safe for tasks and processes at the same time."""

    @property
    def shown(self) -> str:
        """Its address for people, without a password."""

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Do ``work`` in one transaction. Raises :class:`HistoryError`, also for what the driver raises."""

    async def close(self) -> None:
        """Hang up, when what has begun is done."""


async def open_database(home: Home, url: str | None = None) -> Database:
    """The history of ``home``, migrated. Raises :class:`HistoryError` with no secret in its text."""
    await asyncio.to_thread(home.ensure)
    database = _Sqlite(home.history) if url is None else _elsewhere(url)
    try:
        version = await database.run(_version)
        if version is None and isinstance(database, _Sqlite):
            await asyncio.to_thread(database.make, home)
            version = await database.run(_version)
        if version != HEAD:
            from agent.archive.migrating import migrate

            await asyncio.to_thread(migrate, home, url)
    except BaseException:
        await database.close()
        raise
    return database


def failure(shown: str, reason: str) -> HistoryError:
    """The archive's own error for one of the database or its driver."""
    return HistoryError(
        f"The history database {shown} cannot be used: {reason.splitlines()[0] if reason else 'no reason is given'}.",
        "Check the disk and the rights of the file, or `history_url` in config.toml.",
    )


def begin(connection: sqlite3.Connection) -> None:
    """Settings of every connection to SQLite: transactions begin where we say, and stay when power fails."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    connection.execute("PRAGMA synchronous = FULL")


def set_up(connection: sqlite3.Connection) -> None:
    """Settings that the file keeps: readers and the one writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode = WAL")


@contextmanager
def upgrading(home: Home) -> Iterator[None]:
    """One process of a home at a time makes or upgrades the history. Blocking. Raises :class:`HistoryError`."""
    lock = FileLock(home.state / "history.lock")
    deadline = time.monotonic() + 2 * BUSY_SECONDS
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise HistoryError(
                "Another Backroom has been upgrading the history database for a minute.", "Wait for it, then try again."
            )
        time.sleep(0.05)
    with lock:
        yield


def _elsewhere(url: str) -> Elsewhere | _Sqlite:
    from agent.archive.elsewhere import Elsewhere, parsed

    address = parsed(url)
    if address.get_backend_name() == "sqlite" and address.database:
        return _Sqlite(Path(address.database))
    return Elsewhere(address)


def _version(connection: Connection) -> str | None:
    """The database's schema version, ``None`` for an empty one."""
    try:
        rows = connection.execute(Sql(f"SELECT version_num FROM {VERSIONS}")).rows
    except Exception as error:  # of whichever driver
        reason = str(error).lower()
        if "no such table" in reason or "does not exist" in reason or "doesn't exist" in reason:
            return None
        raise
    return str(rows[0][0]) if rows else None


class _Sqlite:
    """Two connections to a file, each with a thread of its own: who reads never waits for who writes."""

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._path = path
        self._lines = {write: _Line(path, write=write) for write in (False, True)}

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        try:
            return await self._lines[write].run(work)
        except (sqlite3.Error, OSError) as error:
            raise failure(self.shown, str(error)) from error

    def make(self, home: Home) -> None:
        """Make the tables at once where there are none at all: Alembic takes half a second and 40 MB. Blocking."""
        statements = Path(__file__).with_name("newest.txt").read_text("utf-8").split(";\n")
        try:
            with upgrading(home), contextlib.closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as connection:
                begin(connection)
                set_up(connection)
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in statements:
                        connection.execute(statement)
                    connection.execute(f"INSERT INTO {VERSIONS} VALUES (?)", (HEAD,))
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise failure(self.shown, str(error)) from error

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()


class _Line:
    """One connection and the thread that alone uses it, both made when they are first needed.

    A task that is cancelled leaves its transaction to the thread, which ends it before it begins another.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = path
        # A writer takes SQLite's write lock at once, waiting for others: nobody has to begin again halfway.
        self._begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        self._thread = ThreadPoolExecutor(1, "history")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._hang_up)
        self._thread.shutdown(wait=False)

    def execute(self, statement: Sql) -> Answer:
        assert self._connection is not None
        cursor = self._connection.execute(statement.text, tuple(_plain(value) for value in statement.values))
        return Answer(cursor.fetchall(), cursor.rowcount)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _run(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
            begin(self._connection)
        self._connection.execute(self._begin)
        try:
            result = work(self)
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # where SQLite has rolled back itself
                self._connection.execute("ROLLBACK")
            raise
        return result


def _plain(value: Any) -> Any:
    """A value as SQLite keeps it: times as text that sorts, as the history always had them."""
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value
