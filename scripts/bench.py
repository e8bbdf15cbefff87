"""Measures Backroom against PostgreSQL's own tools: ``python scripts/bench.py [--rows N] [--rounds N] [--json]``.

Makes a demo shop of about that many rows (2 million; ``--try`` takes 50,000 and one round) on the newest installed
PostgreSQL, else on the embedded one, in a temporary folder; runs every comparison in alternation, several rounds, and
prints the median of each with its ratio to the first of its group. Commands run as processes, so that their start
counts, as with the tools; both ends are on this machine. ``memory`` is the highest of our process, ``receiver``
of the agent that takes a push (the tools' own is small; the servers' is left out).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench_shop import BUSINESS, about, copy, execute, own_queries, prepare  # noqa: E402
from memory import COMMAND, Peak, measured  # noqa: E402

from agent.config import change  # noqa: E402
from agent.demo.embedded import Cluster, embedded_programs  # noqa: E402
from agent.home import Home  # noqa: E402

_ROWS_OF_AN_ORDER = 22.6  # rows of the whole shop for each order of a business
_CHANGES = {
    "business_orders": '"notes" = \'changed\', "updatedAt" = now()',
    "business_order_items": '"unitPrice" = "unitPrice" + 1',
    "business_stock_movements": "\"reason\" = 'changed'",
    "business_transactions": "\"description\" = 'changed'",
}


@dataclass(slots=True)
class Measured:
    """One way of doing a thing: seconds of each round, bytes of what it made, the peaks of our process
    and of the receiving agent in bytes."""

    seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    peak: int = 0
    receiver: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Bench:
    """The laptops, the tools and the results: group, then way, in the order in which they were first measured."""

    def __init__(self, folder: Path, cluster: Cluster, programs: Path) -> None:
        self.folder = folder
        self.cluster = cluster
        self.programs = programs
        self.results: dict[str, dict[str, Measured]] = {}
        self._made = 0

    def note(self, group: str, way: str, seconds: float, *, size: int = 0, peak: int = 0, receiver: int = 0) -> None:
        """Keep one measurement."""
        found = self.results.setdefault(group, {}).setdefault(way, Measured())
        found.seconds.append(seconds)
        found.bytes = size or found.bytes
        found.peak = max(found.peak, peak)
        found.receiver = max(found.receiver, receiver)
        print(f"  {group}: {way}: {seconds:.2f} s", file=sys.stderr, flush=True)

    def tool(self, group: str, way: str, command: str, *, makes: Path | None = None) -> None:
        """Run PostgreSQL's tools by a shell line, in which their folder is ``$PG``."""
        started = time.monotonic()
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", command],
            env=os.environ | {"PG": str(self.programs)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr.decode(errors='replace')[-2000:]}")
        size = _size(makes) if makes else 0
        self.note(group, way, seconds, size=size)

    def ours(self, group: str, way: str, home: Path, *arguments: str, also: int | None = None) -> dict[str, Any]:
        """Run a command of ours; ``also`` is the process of an agent that works with it."""
        other = Peak(also) if also else None
        result, peak, seconds = measured(home, *arguments)
        received = other.stop() if other else 0
        self.note(group, way, seconds, size=_number(result, "bytes"), peak=peak, receiver=received)
        return result

    def database(self, template: str = "template0") -> str:
        """A new database, as a copy; its DSN for the owner."""
        self._made += 1
        return asyncio.run(self.cluster.create_database(f"bench_{self._made}", template=template))

    def drop(self, dsn: str) -> None:
        asyncio.run(self.cluster.drop_database(dsn.partition("?")[0].rpartition("/")[2]))


def _number(result: dict[str, Any], name: str) -> int:
    value = result.get(name)
    return value if isinstance(value, int) else 0


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def _run(work: Coroutine[Any, Any, None]) -> float:
    started = time.monotonic()
    asyncio.run(work)
    return time.monotonic() - started


def backups(bench: Bench, dsn: str, home: Path, queries: list[str]) -> Path:
    """Full backups against pg_dump, and of one business against COPY. Returns a full bundle."""
    custom, directory, copied = bench.folder / "dump.c", bench.folder / "dump.d", bench.folder / "copy.zst"
    shutil.rmtree(directory, ignore_errors=True)
    bench.tool("full backup", "pg_dump -Fc", f"$PG/pg_dump -Fc -f {custom} '{dsn}'", makes=custom)
    full = bench.ours("full backup", "backroom", home, "backup", "--full", "--include-demo")
    bench.tool("full backup", "pg_dump -Fd -j2", f"$PG/pg_dump -Fd -j2 -f {directory} '{dsn}'", makes=directory)
    bench.ours("full backup", "backroom, without demo", home, "backup", "--full")
    bench.note("business backup", "COPY, zstd", _run(copy(dsn, queries, copied)), size=copied.stat().st_size)
    bench.ours("business backup", "backroom", home, "backup", "--business", BUSINESS)
    bench.ours("verify", "backroom", home, "verify", str(full["file"]))
    return Path(str(full["file"]))


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
        for share, parts in (("0.1%", 1), ("10%", 100)):
            changed = f"WHERE abs(hashtext(id)) % 1000 < {parts}"
            asyncio.run(execute(source, *(f"UPDATE {table} SET {what} {changed}" for table, what in _CHANGES.items())))
            bench.ours("push", f"backroom, {share} changed", home, "push", BUSINESS, "sales", also=agent.pid)
        bench.ours("compare", "backroom", home, "compare", "--business", BUSINESS, "--with", "sales")
    finally:
        agent.terminate()
        agent.wait()
    bench.drop(source)
    bench.drop(target)


def starts(bench: Bench, home: Path) -> None:
    """The start of commands."""
    for arguments in (("--version",), ("--help",), ("status",)):
        started = time.monotonic()
        subprocess.run([*COMMAND, "--home", str(home), *arguments], stdout=subprocess.DEVNULL, cwd=ROOT)
        bench.note("start of a command", " ".join(arguments), time.monotonic() - started)


def table(results: dict[str, dict[str, Measured]]) -> str:
    """The results as text; the ratio is to the first of the group."""
    lines = [f"{'':60} {'median':>9} {'ratio':>6} {'MB':>8} {'memory':>9} {'receiver':>9}"]
    for group, ways in results.items():
        first = next(iter(ways.values())).median
        for way, found in ways.items():
            size = f"{found.bytes / 1e6:8.1f}" if found.bytes else " " * 8
            memory = [f"{peak >> 20:6} MB" if peak else " " * 9 for peak in (found.peak, found.receiver)]
            lines.append(
                f"{f'{group}: {way}':60} {found.median:7.2f} s {found.median / first:6.2f} {size} {' '.join(memory)}"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the shop (2000000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--try", action="store_true", dest="small", help="50,000 rows and one round")
    parser.add_argument("--programs", type=Path, help="the bin folder of a PostgreSQL (the newest installed)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    rows, rounds = (50_000, 1) if given.small else (given.rows, given.rounds)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    programs: Path = given.programs or (installed[-1] if installed else embedded_programs())
    with tempfile.TemporaryDirectory(prefix="backroom-bench-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "postgres", programs=programs)
        asyncio.run(cluster.start())
        try:
            at, office, alone = prepare(folder, cluster, max(1, round(rows / _ROWS_OF_AN_ORDER)))
            ran_on = asyncio.run(about(cluster, rows)) | {"rounds": rounds}
            bench = Bench(folder, cluster, programs)
            queries = asyncio.run(own_queries(office))
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                bundle = backups(bench, office, at(office), queries)
                restores(bench, at, bundle)
                pushes(bench, at, alone)
                starts(bench, at(office))
        finally:
            cluster.stop_now()
    if given.json:
        found = {
            group: {way: asdict(each) | {"median": each.median} for way, each in ways.items()}
            for group, ways in bench.results.items()
        }
        print(json.dumps(ran_on | {"results": found}))
    else:
        print("\n".join(f"{what}: {value}" for what, value in ran_on.items()))
        print(table(bench.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
