"""Measures the memory of backup, push and restore with a large database: ``python scripts/memory.py [--scale N]``.

Makes a demo shop of about 500 MB (scale 100000: orders for each business) on embedded PostgreSQL in a temporary
folder, runs the commands on it as processes, and prints the peak resident memory of each. Exits with 1 where one is
over 200 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import asyncpg  # noqa: E402

from agent.config import change  # noqa: E402
from agent.demo import data, schema  # noqa: E402
from agent.demo.embedded import Cluster  # noqa: E402
from agent.home import Home  # noqa: E402
from certs.roster import Role  # noqa: E402
from certs.store import Store  # noqa: E402

LIMIT = 200 << 20
COMMAND = (sys.executable, "-m", "agent.cli.main")
BUSINESS = "Restaurant ABC"


class Peak:
    """The highest resident memory that a process has had, in bytes, from the operating system or by looking often."""

    def __init__(self, process: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(process)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The peak so far; no more is measured."""
        self._ended.set()
        self._thread.join()
        return self.bytes

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            try:
                memory = self._process.memory_info()
            except psutil.Error:
                return
            self.bytes = max(self.bytes, getattr(memory, "peak_wset", memory.rss))


def measured(home: Path, *arguments: str) -> tuple[dict[str, object], int, float]:
    """Run a command to its end: its JSON, its peak in bytes, and seconds."""
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), *arguments, "--json"], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    peak = Peak(process.pid)
    out, _ = process.communicate()
    result: dict[str, object] = json.loads(out.splitlines()[-1])
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {result}")
    return result, peak.stop(), time.monotonic() - started


async def databases(cluster: Cluster, scale: int) -> tuple[str, str, str, int]:
    """A full shop, two that have device state alone, and the bytes of the first."""
    dsns = []
    for name in ("office", "sales", "empty"):
        dsn = await cluster.create_database(name)
        connection = await asyncpg.connect(dsn)
        for statement in schema.schema_sql():
            await connection.execute(statement)
        if name == "office":
            await data.fill(connection, scale=scale, device_name=name, node_id=f"node-{name}")
        else:
            await data.fill_device_state(connection, seed=2, device_name=name, node_id=f"node-{name}")
        await connection.execute("ANALYZE")
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        await connection.close()
        dsns.append((dsn, size))
    (office, size), (sales, _), (empty, _) = dsns
    return office, sales, empty, size


def laptop(folder: Path, name: str, dsn: str) -> Path:
    """A data folder that is set up."""
    home = folder / name
    Store(home).load_or_create_identity(name)
    change(Home(home), database_url=dsn, name=name, port=0, listen=("127.0.0.1",))
    return home


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=int, default=100_000, help="orders of each business (100000)")
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory(prefix="backroom-memory-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "postgres")
        asyncio.run(cluster.start())
        try:
            return measure(folder, cluster, scale)
        finally:
            cluster.stop_now()


def measure(folder: Path, cluster: Cluster, scale: int) -> int:
    """Make the laptops, run the commands, print the table. The exit code."""
    started = time.monotonic()
    office_dsn, sales_dsn, empty_dsn, size = asyncio.run(databases(cluster, scale))
    print(f"database of {size / 1e6:.0f} MB made in {time.monotonic() - started:.0f} s")
    office, sales = laptop(folder, "office", office_dsn), laptop(folder, "sales", sales_dsn)
    empty = laptop(folder, "empty", empty_dsn)
    founder, member = Store(office), Store(sales)
    founder.create_shop("Memory")
    member.join_result(founder.issue("sales", member.identity().public_key, Role.MEMBER))
    peaks: dict[str, int] = {}

    def note(what: str, peak: int, seconds: float, text: str = "") -> None:
        peaks[what] = peak
        print(f"{what:32} {peak / (1 << 20):6.0f} MB  {seconds:6.1f} s  {text}", flush=True)

    full, peak, seconds = measured(office, "backup", "--full", "--include-demo")
    note("backup --full", peak, seconds, f"{full['rows']} rows, {full['bytes']} bytes")
    plain, peak, seconds = measured(office, "backup", "--business", BUSINESS, "--no-compress")
    note("backup --business, as it is", peak, seconds, f"{plain['rows']} rows, {plain['bytes']} bytes")
    _, peak, seconds = measured(empty, "restore", str(full["file"]), "--yes", "--trust-source")
    note("restore into empty", peak, seconds)
    _, peak, seconds = measured(empty, "restore", str(full["file"]), "--yes", "--trust-source")
    note("restore of the same", peak, seconds)
    agent = subprocess.Popen(
        [*COMMAND, "--home", str(sales), "run", "--json"], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    try:
        assert agent.stdout is not None
        port = json.loads(agent.stdout.readline())["port"]
        change(Home(office), peers=(f"127.0.0.1:{port}",))
        for what in ("push", "push again"):
            receiving = Peak(agent.pid)
            pushed, peak, seconds = measured(office, "push", BUSINESS, "sales")
            note(what, peak, seconds, f"{pushed['inserted']} new, {pushed['unchanged']} unchanged")
            note(f"{what}, the receiving agent", receiving.stop(), seconds)
        serving = Peak(agent.pid)
        _, peak, seconds = measured(office, "pull", "sales", "--full")
        note("pull --full", peak, seconds)
        note("pull --full, the serving agent", serving.stop(), seconds)
        _, peak, seconds = measured(office, "compare", "--business", BUSINESS, "--with", "sales")
        note("compare", peak, seconds)
    finally:
        agent.terminate()
        agent.wait()
    over = [what for what, peak in peaks.items() if peak > LIMIT]
    print(f"over {LIMIT >> 20} MB: {', '.join(over)}" if over else f"all under {LIMIT >> 20} MB")
    return 1 if over else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
