"""The comparisons of scripts/bench.py: each function runs the ways of one kind of work, one after another, once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench_shop import BUSINESS, copy, execute  # noqa: E402
from memory import COMMAND, Peak, measured  # noqa: E402

from agent.config import change  # noqa: E402
from agent.demo.embedded import Cluster  # noqa: E402
from agent.engine.backup import BackupRequest, backup  # noqa: E402
from agent.home import Home  # noqa: E402
from agent.operations.workspace import Workspace, utc_now  # noqa: E402
from protocol.manifest import Kind, Manifest  # noqa: E402

_CHANGES = {
    "business_orders": '"notes" = \'changed\', "updatedAt" = now()',
    "business_order_items": '"unitPrice" = "unitPrice" + 1',
    "business_stock_movements": "\"reason\" = 'changed'",
    "business_transactions": "\"description\" = 'changed'",
}
# Which rows change: those that were written last, as most are that change in a shop, or some all over the tables.
_CHANGED = {
    "0.1% changed, the newest": "ctid IN (SELECT ctid FROM {table} ORDER BY ctid DESC "
    "LIMIT (SELECT count(*) / 1000 FROM {table}))",
    "0.1% changed": "abs(hashtext(id)) % 1000 < 1",
    "10% changed": "abs(hashtext(id)) % 1000 < 100",
}


@dataclass(slots=True)
class Measured:
    """One way of doing a thing: seconds of each round, seconds of processors (the server's and the agents' too), bytes
    of what it made, the peaks of our process and of the receiving agent in bytes."""

    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    bytes: int = 0
    peak: int = 0
    receiver: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_busy(self) -> float:
        return statistics.median(self.busy)


class Bench:
    """The laptops, the tools and the results: group, then way, in the order in which they were first measured."""

    def __init__(self, folder: Path, cluster: Cluster, programs: Path) -> None:
        self.folder = folder
        self.cluster = cluster
        self.programs = programs
        self.version = int(
            subprocess.check_output([programs / "pg_dump", "--version"], text=True).split()[2].split(".")[0]
        )
        self.results: dict[str, dict[str, Measured]] = {}
        self._made = 0

    @contextmanager
    def timed(self, group: str, way: str, *, agent: int | None = None) -> Iterator[Measured]:
        """Measure the block, and keep it unless it fails; ``agent`` is the process of an agent that works with it."""
        busy, started = self._busy(agent), time.monotonic()
        found = self.results.setdefault(group, {}).setdefault(way, Measured())
        yield found
        found.seconds.append(time.monotonic() - started)
        found.busy.append(self._busy(agent) - busy)
        text = f"  {group}: {way}: {found.seconds[-1]:.2f} s, {found.busy[-1]:.2f} s of processors"
        print(text, file=sys.stderr, flush=True)

    def _busy(self, agent: int | None) -> float:
        """Seconds of processors so far: of this process and all that it has run, of the server, and of the agent."""
        server = psutil.Process(int((self.cluster.folder / "data" / "postmaster.pid").read_text().split()[0]))
        times = None
        while times is None:
            # A backend that ends has its time in the server's: if that happens meanwhile, all is read again.
            with suppress(psutil.NoSuchProcess):
                children = server.children()
                times = [server.cpu_times(), *map(_own_times, children)]
        if agent:
            with suppress(psutil.NoSuchProcess):
                times.append(_own_times(psutil.Process(agent)))
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return mine + sum(float(each.user + each.system + each.children_user + each.children_system) for each in times)

    def tool(self, group: str, way: str, command: str, *, makes: Path | None = None) -> None:
        """Run PostgreSQL's tools by a shell line, in which their folder is ``$PG``."""
        with self.timed(group, way) as found:
            done = subprocess.run(
                ["/bin/bash", "-o", "pipefail", "-c", command],
                env=os.environ | {"PG": str(self.programs)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr.decode(errors='replace')[-2000:]}")
        found.bytes = _size(makes) if makes else 0

    def ours(self, group: str, way: str, home: Path, *arguments: str, also: int | None = None) -> dict[str, Any]:
        """Run a command of ours; ``also`` is the process of an agent that works with it."""
        other = Peak(also) if also else None
        with self.timed(group, way, agent=also) as found:
            result, peak, _ = measured(home, *arguments)
        found.receiver = max(found.receiver, other.stop() if other else 0)
        found.peak = max(found.peak, peak)
        found.bytes = _number(result, "bytes") or found.bytes
        return result

    def database(self, template: str = "template0") -> str:
        """A new database, as a copy; its DSN for the owner."""
        self._made += 1
        return asyncio.run(self.cluster.create_database(f"bench_{self._made}", template=template))

    def drop(self, dsn: str) -> None:
        asyncio.run(self.cluster.drop_database(dsn.partition("?")[0].rpartition("/")[2]))


def _own_times(process: psutil.Process) -> Any:
    """The times of a process without those of its children that have ended."""
    return process.cpu_times()._replace(children_user=0.0, children_system=0.0)


def _number(result: dict[str, Any], name: str) -> int:
    value = result.get(name)
    return value if isinstance(value, int) else 0


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def backups(bench: Bench, dsn: str, home: Path, queries: list[str]) -> Path:
    """Full backups against pg_dump, and of one business against COPY. Returns a full bundle."""
    custom, directory, copied = bench.folder / "dump.c", bench.folder / "dump.d", bench.folder / "copy.zst"
    shutil.rmtree(directory, ignore_errors=True)
    bench.tool("full backup", "pg_dump -Fc", f"$PG/pg_dump -Fc -f {custom} '{dsn}'", makes=custom)
    full = bench.ours("full backup", "backroom", home, "backup", "--full", "--include-demo")
    bench.tool("full backup", "pg_dump -Fd -j2", f"$PG/pg_dump -Fd -j2 -f {directory} '{dsn}'", makes=directory)
    if bench.version >= 16:
        packed = bench.folder / "dump.z"
        bench.tool("full backup", "pg_dump -Fc, zstd", f"$PG/pg_dump -Fc -Z zstd:1 -f {packed} '{dsn}'", makes=packed)
    bench.ours("full backup", "backroom, without demo", home, "backup", "--full")
    with bench.timed("business backup", "COPY, zstd") as found:
        asyncio.run(copy(dsn, queries, copied))
    found.bytes = copied.stat().st_size
    forget(home)
    bench.ours("business backup", "backroom", home, "backup", "--business", BUSINESS)
    bench.ours("business backup", "backroom, of what nobody touched since", home, "backup", "--business", BUSINESS)
    with bench.timed("business backup", "finding and checking the rows alone"):
        asyncio.run(_find_rows(home))
    bench.ours("verify", "backroom", home, "verify", str(full["file"]))
    return Path(str(full["file"]))


def forget(home: Path) -> None:
    """Leave the laptop without a bundle of a business and what it knows of earlier ones: the next is the first."""
    for folder in (home / "archive" / "business", home / "state" / "known"):
        shutil.rmtree(folder, ignore_errors=True)


class _Found(Exception):
    """The rows are found and every gate has passed."""


async def _find_rows(home: Path) -> None:
    """A business backup up to where its file would be made."""

    @asynccontextmanager
    async def nowhere(_manifest: Manifest) -> AsyncIterator[Any]:
        raise _Found
        yield

    workspace, request = Workspace(Home(home)), BackupRequest(Kind.BUSINESS, BUSINESS)
    with suppress(_Found):
        await backup(workspace.database_url, workspace.catalogue(), request, workspace.origin(), nowhere, now=utc_now)


def exports(bench: Bench, dsn: str, home: Path, bundle: Path) -> None:
    """The platform's JSON file, against JSON made by the database."""
    made, exported = bench.folder / "rows.json.gz", bench.folder / "backup.json.gz"
    names = "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    listed = f"$PG/psql -Atc \"{names}\" '{dsn}'"
    rows = f"for t in $({listed}); do $PG/psql -Atc \"SELECT to_jsonb(t) FROM $t t\" '{dsn}'; done"
    bench.tool("JSON", "to_jsonb by psql, gzip", f"({rows}) | gzip > {made}", makes=made)
    exported.unlink(missing_ok=True)
    bench.ours("JSON", "backroom export", home, "export", str(bundle), "--plain", "--output", str(exported))


def restores(bench: Bench, homes: Callable[[str], Path], bundle: Path) -> None:
    """Restores into an empty and into a full database."""
    custom, directory = bench.folder / "dump.c", bench.folder / "dump.d"
    for way, command in (
        ("pg_restore -1", f"$PG/pg_restore -1 --no-owner -d '{{dsn}}' {custom}"),
        ("pg_restore -j2", f"$PG/pg_restore -j2 --no-owner -d '{{dsn}}' {directory}"),
    ):
        dsn = bench.database()
        bench.tool("restore into empty", way, command.format(dsn=dsn))
        bench.drop(dsn)
    dsn = bench.database("empty")
    bench.ours("restore into empty", "backroom", homes(dsn), "restore", str(bundle), "--yes", "--trust-source")
    bench.drop(dsn)
    dsn = bench.database("office")
    bench.tool(
        "restore into full", "pg_restore --clean -1", f"$PG/pg_restore --clean -1 --no-owner -d '{dsn}' {custom}"
    )
    bench.drop(dsn)
    dsn = bench.database("office")
    bench.ours("restore into full", "backroom", homes(dsn), "restore", str(bundle), "--yes", "--trust-source")
    bench.drop(dsn)


def pushes(bench: Bench, homes: Callable[[str], Path], alone: str) -> None:
    """One business, alone on the source, to an empty laptop; again, unchanged and changed; then compare."""
    dump, sent = bench.folder / "push.c", bench.folder / "pushed.c"
    dsn = bench.database()
    line = f"$PG/pg_dump -Fc -f {dump} '{alone}' && cp {dump} {sent} && $PG/pg_restore -1 --no-owner -d '{dsn}' {sent}"
    bench.tool("push", "pg_dump -Fc, cp, pg_restore -1", line, makes=dump)
    bench.drop(dsn)
    dsn = bench.database()
    bench.tool("push", "pg_dump | psql -1", f"$PG/pg_dump -O '{alone}' | $PG/psql -q -1 -v ON_ERROR_STOP=1 '{dsn}'")
    bench.drop(dsn)
    source, target = bench.database("alone"), bench.database("empty")
    change(Home(homes(source)), database_url=source)
    sales = bench.folder / "sales"
    change(Home(sales), database_url=target)
    forget(homes(source))
    forget(sales)
    agent = subprocess.Popen(
        [*COMMAND, "--home", str(sales), "run", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
    )
    try:
        assert agent.stdout is not None
        change(Home(homes(source)), peers=(f"127.0.0.1:{json.loads(agent.stdout.readline())['port']}",))
        home = homes(source)
        bench.ours("push", "backroom", home, "push", BUSINESS, "sales", also=agent.pid)
        bench.ours("push", "backroom, 0% changed", home, "push", BUSINESS, "sales", also=agent.pid)
        for changed, which in _CHANGED.items():
            updates = (f"UPDATE {table} SET {to} WHERE {which.format(table=table)}" for table, to in _CHANGES.items())
            asyncio.run(execute(source, *updates))
            bench.ours("push", f"backroom, {changed}", home, "push", BUSINESS, "sales", also=agent.pid)
        bench.ours("compare", "backroom", home, "compare", "--business", BUSINESS, "--with", "sales")
    finally:
        agent.terminate()
        agent.wait()
    bench.drop(source)
    bench.drop(target)


def starts(bench: Bench, home: Path) -> None:
    """The start of commands."""
    for arguments in (("--version",), ("--help",), ("status",)):
        with bench.timed("start of a command", " ".join(arguments)):
            subprocess.run([*COMMAND, "--home", str(home), *arguments], stdout=subprocess.DEVNULL, cwd=ROOT)
