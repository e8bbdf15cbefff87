"""How much memory and time a backup takes: ``python scripts/measure_backup.py [MEGABYTES]`` (default 500).

Starts an embedded PostgreSQL in a temporary folder, fills it, backs it up into a file in this process, and prints what
that took. The limit that the plan sets is 200 MB for a database of 500 MB.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.demo.embedded import Cluster
from agent.engine.backup import BackupRequest
from agent.engine.backup import backup as back_up
from agent.tables.catalogue import load_catalogue
from protocol.manifest import Kind, Manifest
from tests.support.backups import NOW, origin

SCHEMA = """
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE businesses (id text PRIMARY KEY, name text, "isDemo" boolean);
    CREATE TABLE cards (id bigint PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, note text);
    CREATE TABLE notes (id bigint PRIMARY KEY, card bigint NOT NULL REFERENCES cards, note text);
    INSERT INTO businesses VALUES ('b1', 'One', false), ('b2', 'Two', false), ('b3', 'Demo', true);
"""
FILL = """
    INSERT INTO cards SELECT n, CASE n % 1000 WHEN 0 THEN 'b3' WHEN 1 THEN 'b2' ELSE 'b1' END, repeat(md5(n::text), 6)
    FROM generate_series(1, $1::int) n
"""
FILL_NOTES = "INSERT INTO notes SELECT id, id, repeat(md5(id::text || 'x'), 6) FROM cards"
_ROWS_OF_A_MEGABYTE = 2_400


class File:
    """A sink that writes to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, manifest: Manifest) -> File:
        return self

    async def __aenter__(self) -> File:
        self._file = self._path.open("wb")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._file.close()

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._file.write, data)


async def measure(folder: Path, megabytes: int) -> None:
    """Fill a database of that size and back it up in each way."""
    async with Cluster(folder / "server") as cluster:
        dsn = await cluster.create_database("shop")
        connection = await asyncpg.connect(dsn)
        await connection.execute(SCHEMA)
        await connection.execute(FILL, megabytes * _ROWS_OF_A_MEGABYTE)
        await connection.execute(FILL_NOTES)
        await connection.close()
        process = psutil.Process()
        print(f"before: {process.memory_info().rss >> 20} MB")
        for kind, business, demo in (
            (Kind.FULL, None, True),
            (Kind.FULL, None, False),
            (Kind.BUSINESS, "b1", False),
        ):
            peak = 0

            async def watch() -> None:
                nonlocal peak
                while True:
                    peak = max(peak, process.memory_info().rss)
                    await asyncio.sleep(0.02)

            watching = asyncio.create_task(watch())
            started = time.monotonic()
            request = BackupRequest(kind, business, include_demo=demo)
            result = await back_up(
                dsn, load_catalogue(), request, origin(), File(folder / "out.bundle"), now=lambda: NOW
            )
            watching.cancel()
            print(
                f"{kind.value} (demo shops: {demo}): {result.manifest.total_rows} rows, {result.raw_bytes >> 20} MB, "
                f"file {result.bytes >> 20} MB, {time.monotonic() - started:.1f} s, most memory {peak >> 20} MB"
            )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="br-") as name:
        asyncio.run(measure(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 500))
