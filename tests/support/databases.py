"""Real PostgreSQL servers for the tests, and fresh databases on them in some twenty milliseconds each.

Servers start when a test first asks for one, one set per test process, so that processes of pytest-xdist never meet.
A database is a copy of a template that is filled once per server. Each copy is of 850 small files, which some machines'
disks take seconds for: where there is room, the servers' files are in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from agent.demo import data, schema
from agent.demo.embedded import OWNER, SUPERUSER, Cluster
from tests.support import everything

EMBEDDED = "embedded-18"
_FOLDERS = (Path("/usr/lib/postgresql"), Path("/usr/local/pgsql"), Path("C:/Program Files/PostgreSQL"))
_OLDEST = 15
_PREFIX = "br-servers-"
_MEMORY = Path("/dev/shm")
_ROOM_IN_MEMORY = 8 << 30
_WAL = "256MB"
"""Kept by each server: what it never needs again takes room in memory, too."""


def installed_programs() -> dict[str, Path]:
    """The ``bin`` folders of the PostgreSQL versions installed here, named ``installed-15`` and so on."""
    found = {}
    for folder in _FOLDERS:
        for programs in sorted(folder.glob("*/bin")):
            version = programs.parent.name
            if version.isdigit() and int(version) >= _OLDEST and any(programs.glob("initdb*")):
                found[f"installed-{version}"] = programs
    return found


def server_names() -> list[str]:
    """The servers that tests run on. ``BACKROOM_TEST_SERVERS=embedded-18`` narrows them (comma separated)."""
    names = [EMBEDDED, *(installed_programs() or ["installed"])]
    wanted = os.environ.get("BACKROOM_TEST_SERVERS")
    return [name for name in names if not wanted or name in wanted.split(",")]


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a test. ``dsn`` is for its owner, an ordinary role; ``admin_dsn`` for the superuser."""

    name: str
    dsn: str
    admin_dsn: str

    @asynccontextmanager
    async def connect(self, *, admin: bool = False) -> AsyncIterator[Any]:
        """An asyncpg connection, closed on the way out."""
        connection = await asyncpg.connect(self.admin_dsn if admin else self.dsn)
        try:
            yield connection
        finally:
            await connection.close()


class Server:
    """A running server. ``name`` says which: ``embedded-18``, ``installed-15``."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.cluster = cluster
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {"empty": "template0"}
        self._filling = threading.Lock()

    @property
    def major(self) -> int:
        return int(self.name.rsplit("-", 1)[1])

    async def fresh(self, template: str = "empty") -> Database:
        """A new database: ``empty``, ``platform`` (143 empty tables), ``filled`` (the demo's first laptop at scale 20)
        or ``everything`` (rows in every table)."""
        copied = await asyncio.to_thread(self._template, template)
        name = f"test_{next(self._numbers)}"
        dsn = await self.cluster.create_database(name, template=copied)
        return Database(name, dsn, self.cluster.dsn(name, SUPERUSER))

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        """Nothing but the test's own connections has transactions as long as the block lasts: no autovacuum."""
        connection = await asyncpg.connect(self.cluster.dsn("postgres", SUPERUSER))
        working = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'autovacuum%')"
        try:
            await connection.execute("ALTER SYSTEM SET autovacuum = off")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval(working):
                await asyncio.sleep(0.05)
            yield
        finally:
            await connection.execute("ALTER SYSTEM RESET autovacuum")
            await connection.execute("SELECT pg_reload_conf()")
            await connection.close()

    async def drop(self, database: Database) -> None:
        await self.cluster.drop_database(database.name)

    def _template(self, kind: str) -> str:
        with self._filling:
            if kind not in self._templates:
                asyncio.run(self._fill_template(kind))
                self._templates[kind] = f"template_{kind}"
            return self._templates[kind]

    async def _fill_template(self, kind: str) -> None:
        dsn = await self.cluster.create_database(f"template_{kind}", owner=OWNER)
        connection = await asyncpg.connect(dsn)
        try:
            await _FILLERS[kind](connection)
        finally:
            await connection.close()


class Servers:
    """The servers of one test process, each started when it is first asked for."""

    def __init__(self) -> None:
        _clear_what_killed_tests_left()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
        (self.folder / "pid").write_text(str(os.getpid()))
        self._running: dict[str, Server] = {}

    def get(self, name: str) -> Server:
        """The server of that name, started. Blocks for half a second the first time."""
        if name not in self._running:
            programs = None if name == EMBEDDED else installed_programs()[name]
            cluster = Cluster(self.folder / name, programs=programs)
            _in_thread(cluster.start)
            _in_thread(lambda: _keep_little(cluster))
            self._running[name] = Server(name, cluster)
        return self._running[name]

    def stop(self) -> None:
        for server in self._running.values():
            server.cluster.stop_now()
        shutil.rmtree(self.folder)


def _place() -> Path:
    """The folder for the servers' folders."""
    with suppress(OSError):
        free = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
        if free >= _ROOM_IN_MEMORY and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


async def _keep_little(cluster: Cluster) -> None:
    connection = await asyncpg.connect(cluster.dsn("postgres", SUPERUSER))
    try:
        await connection.execute(f"ALTER SYSTEM SET max_wal_size = '{_WAL}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def _clear_what_killed_tests_left() -> None:
    """Stop and remove the servers of test processes that ended without a chance to do so."""
    places = (_MEMORY, Path(tempfile.gettempdir()))
    for owner in itertools.chain.from_iterable(place.glob(f"{_PREFIX}*/pid") for place in places):
        with suppress(OSError, ValueError):
            if not psutil.pid_exists(int(owner.read_text())):
                for data_folder in owner.parent.glob("*/data"):
                    name = data_folder.parent.name
                    programs = None if name == EMBEDDED else installed_programs().get(name)
                    Cluster(data_folder.parent, programs=programs).stop_now()
                shutil.rmtree(owner.parent)


def _in_thread(work: Callable[[], Awaitable[object]]) -> None:
    """Run ``work`` to its end on a loop of its own, whatever loop this thread has."""
    failures: list[BaseException] = []

    async def run() -> None:
        await work()

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _platform(connection: Any) -> None:
    for statement in schema.schema_sql():
        await connection.execute(statement)


async def _filled(connection: Any) -> None:
    await _platform(connection)
    await data.fill(connection, seed=1, scale=20, device_name="laptop-office-001", node_id="node-office")


async def _everything(connection: Any) -> None:
    await _platform(connection)
    await everything.fill_everything(connection)


_FILLERS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "platform": _platform,
    "filled": _filled,
    "everything": _everything,
}
