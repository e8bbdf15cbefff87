"""Real laptops for end-to-end tests: every command and every agent is a process of its own, as for a user.

Everything stays on the loopback interface. Laptops of one test know each other by address, so that mDNS, which other
tests use at the same time, is started only where a test is about it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg

from agent.archive.history import History
from agent.config import change
from agent.demo import data
from agent.demo.embedded import SUPERUSER
from agent.home import Home
from certs.roster import Role
from certs.store import Store
from tests.support.databases import EMBEDDED, Database, Server, Servers
from tests.support.zygote import Forked

BACKROOM = PLAIN = (sys.executable, "-m", "agent.cli.main")
LOOPBACK = {"BACKROOM_LISTEN": "127.0.0.1"}
# For laptops in networks of their own.
ANYWHERE = {"BACKROOM_LISTEN": ""}
# No interface has this address, so mDNS does not start: the command goes to the addresses that it is given.
NO_MDNS = {"BACKROOM_LISTEN": "198.51.100.1"}
ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON value on standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        return json.loads(lines[0])

    @property
    def error(self) -> dict[str, str]:
        """The error of a command that failed in the way that it should."""
        assert self.code == 1, self
        assert "Traceback" not in self.out + self.err, self
        assert set(self.value) == {"error"}, self
        error: dict[str, str] = self.value["error"]
        assert set(error) == {"code", "message", "hint"}, self
        return error


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of commands: nothing of the tester's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKROOM_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def backroom(*arguments: str, env: Mapping[str, str] = {}, timeout: float = 90, within: Sequence[str] = ()) -> Answer:
    """Run the command to its end."""
    process = spawn(arguments, env=env, within=within, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return Answer(process.returncode, out, err)


def spawn(
    arguments: Sequence[str], *, env: Mapping[str, str], within: Sequence[str] = (), stderr: Any, text: bool = False
) -> subprocess.Popen[Any]:
    """Start the command: forked where nothing speaks against it, else as a user's shell starts it."""
    full = environment(env)
    if within or "LD_PRELOAD" in full or BACKROOM != PLAIN or os.name == "nt":
        return subprocess.Popen(
            [*within, *BACKROOM, *arguments],
            env=full,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=text,
            cwd=ROOT,
        )
    forked = Forked(arguments, env=full, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=stderr, text=text)
    return cast("subprocess.Popen[Any]", forked)


def wait_until(true: Callable[[], Any], seconds: float = 20, what: str = "it") -> Any:
    """The first true value that comes within the time."""
    end = time.monotonic() + seconds
    while True:
        if value := true():
            return value
        assert time.monotonic() < end, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.02)


class Agent:
    """A running ``backroom run``."""

    def __init__(self, laptop: Laptop, env: Mapping[str, str]) -> None:
        self.laptop = laptop
        self._log_path = laptop.home / "logs" / "backroom.jsonl"
        self._skip = len(self._lines())
        self.errors = (laptop.home.parent / f"{laptop.home.name}.agent.err").open("ab")
        arguments = ("--home", str(laptop.home), "run", "--json")
        self.process = spawn(arguments, env={**LOOPBACK, **env}, within=laptop.within, stderr=self.errors)
        self.port = 0

    def ready(self) -> Agent:
        """Wait until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.process.wait(), Path(self.errors.name).read_text()[-3000:])
        said = json.loads(line)
        assert said.get("ready") is True, said
        self.port = said["port"]
        return self

    def log(self) -> list[dict[str, Any]]:
        """What this agent has logged so far."""
        return [json.loads(line) for line in self._lines()[self._skip :]]

    def wait_for(self, event: str, seconds: float = 30, **facts: object) -> dict[str, Any]:
        """The first logged event of that name with these facts."""

        def look() -> dict[str, Any] | None:
            for each in self.log():
                if each["event"] == event and all(each.get(name) == value for name, value in facts.items()):
                    return each
            return None

        found: dict[str, Any] = wait_until(look, seconds, f"{event!r} in the log of {self.laptop.name}")
        return found

    def kill(self) -> None:
        """SIGKILL, as by a dead battery."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reap()

    def _reap(self) -> None:
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()

    def _lines(self) -> list[str]:
        text = self._log_path.read_text() if self._log_path.exists() else ""
        return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]


class Laptop:
    """A laptop with a data folder and a database of its own."""

    def __init__(self, name: str, home: Path, database: Database) -> None:
        self.name = name
        self.home = home
        self.database = database
        self.within: tuple[str, ...] = ()
        """What goes before every command, such as ``ip netns exec NAME``."""
        self._started: list[subprocess.Popen[str]] = []

    @property
    def store(self) -> Store:
        return Store(self.home)

    @property
    def node_id(self) -> str:
        return self.store.identity().node_id

    def set_up(self) -> Laptop:
        """What ``init --port 0`` does, without the process."""
        self.store.load_or_create_identity(self.name)
        change(Home(self.home), database_url=self.database.dsn, name=self.name, port=0)
        return self

    def knows(self, *ports: int) -> None:
        """Try these ports of this machine for other laptops, and forget what worked before."""
        (self.home / "state" / "peers.json").unlink(missing_ok=True)
        change(Home(self.home), peers=tuple(f"127.0.0.1:{port}" for port in ports))

    def arguments(self, *arguments: str) -> list[str]:
        return ["--home", str(self.home), *arguments, "--json"]

    def cli(self, *arguments: str, env: Mapping[str, str] = NO_MDNS, timeout: float = 90) -> Answer:
        """Run a command on this laptop."""
        return backroom(*self.arguments(*arguments), env=env, timeout=timeout, within=self.within)

    def do(self, *arguments: str, env: Mapping[str, str] = NO_MDNS) -> Any:
        """Run a command that must do what it is told; its JSON."""
        answer = self.cli(*arguments, env=env)
        assert answer.code == 0, answer
        return answer.value

    def start(self, *arguments: str, env: Mapping[str, str] = NO_MDNS) -> subprocess.Popen[str]:
        """Start a command, which ``ended`` waits for; what a failed test leaves running is killed after it."""
        process = spawn(self.arguments(*arguments), env=env, within=self.within, stderr=subprocess.PIPE, text=True)
        self._started.append(process)
        return process

    def kill_commands(self) -> None:
        """End every command that was started here."""
        for process in self._started:
            process.kill()
            process.communicate()
        self._started.clear()

    @contextmanager
    def running(self, env: Mapping[str, str] = {}) -> Iterator[Agent]:
        """An agent as long as the block lasts; it may be killed meanwhile."""
        agent = Agent(self, env)
        try:
            yield agent.ready()
        finally:
            if agent.process.poll() is None:
                agent.stop()
            else:
                agent._reap()

    def logs(self) -> str:
        """All that commands and agents have logged on this laptop."""
        return "".join(path.read_text() for path in sorted((self.home / "logs").glob("*.jsonl*")))

    def history(self) -> dict[str, list[dict[str, Any]]]:
        """What ``history --json`` says, without the process."""

        async def read() -> dict[str, list[dict[str, Any]]]:
            async with History.open(Home(self.home)) as history:
                found = {
                    "backups": await history.backups(),
                    "transfers": await history.transfers(),
                    "restores": await history.restores(),
                }
                return {what: [asdict(record) for record in records] for what, records in found.items()}

        return asyncio.run(read())

    def query(self, sql: str, *arguments: object) -> list[Any]:
        """Rows of the laptop's own database."""

        async def ask() -> list[Any]:
            async with self.database.connect() as connection:
                rows: list[Any] = await connection.fetch(sql, *arguments)
                return rows

        return asyncio.run(ask())

    def execute(self, sql: str) -> None:
        async def run() -> None:
            async with self.database.connect() as connection:
                await connection.execute(sql)

        asyncio.run(run())

    def digest(self) -> dict[str, tuple[int, str]]:
        """Rows and a digest over all their values, by table."""
        tables = [row[0] for row in self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        parts = (
            f"SELECT '{table}', count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) "
            f'FROM "{table}" t'
            for table in tables
        )
        return {row[0]: (row[1], row[2]) for row in self.query(" UNION ALL ".join(parts))}

    @contextmanager
    def blocking(self, table: str) -> Iterator[None]:
        """Have the platform hold a table, so that nobody else writes to it, as long as the block lasts."""
        entered, leave = threading.Event(), threading.Event()

        async def hold() -> None:
            async with self.database.connect() as connection, connection.transaction():
                await connection.execute(f'LOCK TABLE "{table}" IN ROW EXCLUSIVE MODE')
                entered.set()
                await asyncio.to_thread(leave.wait)

        thread = threading.Thread(target=asyncio.run, args=(hold(),))
        thread.start()
        try:
            assert entered.wait(10)
            yield
        finally:
            leave.set()
            thread.join()

    def end_backend(self, process: int) -> None:
        """Have the database server end one of its connections."""

        async def end() -> None:
            async with self.database.connect(admin=True) as connection:
                assert await connection.fetchval("SELECT pg_terminate_backend($1)", process)

        asyncio.run(end())

    def files(self, folder: str) -> list[Path]:
        """All files below a folder of the data folder."""
        return sorted(path for path in (self.home / folder).rglob("*") if path.is_file())


def ended(process: subprocess.Popen[str], timeout: float = 90) -> Answer:
    """Wait for a started command."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"The command did not end: {out} {err}") from None
    return Answer(process.returncode, out, err)


class Shops:
    """Makes laptops and shops of them; what it made is gone after ``close``."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._made: list[Database] = []
        self._laptops: list[Laptop] = []

    @classmethod
    def on(cls, servers: Servers, folder: Path) -> Shops:
        return cls(servers.get(EMBEDDED), folder)

    def database(self, content: str, node: str) -> Database:
        """``shop``: three businesses and a demo one; ``device``: the platform with its device state alone; else a
        template of the tests' databases."""
        template = {"shop": "filled", "device": "platform"}.get(content, content)
        made = asyncio.run(self._server.fresh(template))
        self._made.append(made)
        if content == "device":
            asyncio.run(_add_device_state(made, node))
        return made

    def large_database(self, scale: int) -> Database:
        """A shop with ``scale`` orders for each business. Made once for each scale."""
        name = f"template_scale_{scale}"

        async def make() -> Database:
            cluster = self._server.cluster
            if name not in await cluster.database_names():
                platform = await self._server.fresh("platform")
                connection = await asyncpg.connect(platform.dsn)
                try:
                    await data.fill(connection, scale=scale, device_name="laptop-office-001", node_id="node-office")
                    await connection.execute("ANALYZE")
                finally:
                    await connection.close()
                await cluster.rename_database(platform.name, name)
            copy = f"large_{os.getpid()}_{next(_numbers)}"
            dsn = await cluster.create_database(copy, template=name)
            return Database(copy, dsn, cluster.dsn(copy, SUPERUSER))

        made = asyncio.run(make())
        self._made.append(made)
        return made

    def laptop(self, name: str, content: str | Database = "device") -> Laptop:
        """A laptop that is set up and in no shop."""
        database = content if isinstance(content, Database) else self.database(content, f"node-of-{name}")
        home = self._folder / f"{name}-{next(_numbers)}"
        self._laptops.append(Laptop(name, home, database).set_up())
        return self._laptops[-1]

    def shop(self, *laptops: Laptop, name: str = "Corner Shops", roles: Mapping[str, Role] = {}) -> None:
        """Make a shop of laptops; the first is the admin that keeps its authority."""
        first, *others = laptops
        first.store.create_shop(name)
        for each in others:
            role = roles.get(each.name, Role.MEMBER)
            each.store.join_result(first.store.issue(each.name, each.store.identity().public_key, role))
        for each in others:
            each.store.save_roster(first.store.signed_roster().encode())

    def close(self) -> None:
        for laptop in self._laptops:
            laptop.kill_commands()

        async def drop() -> None:
            for each in self._made:
                await self._server.drop(each)

        asyncio.run(drop())
        self._made.clear()


async def _add_device_state(database: Database, node: str) -> None:
    async with database.connect() as connection:
        await data.fill_device_state(connection, seed=2, device_name=node.removeprefix("node-of-"), node_id=node)
