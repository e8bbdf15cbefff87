"""The server in a folder: start, stop, databases, and folders that make it hard."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from agent.demo.accounts import server_user
from agent.demo.embedded import Cluster, embedded_programs
from agent.demo.errors import ClusterFailed, EmbeddedPostgresMissing
from agent.demo.sockets import socket_folder
from tests.support.databases import EMBEDDED, Server, Servers


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="br-"))
    yield made
    shutil.rmtree(made)


async def ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_data_is_there_after_a_restart_at_the_same_address(folder: Path, tcp: bool) -> None:
    cluster = Cluster(folder / "with a space", tcp=tcp)
    await cluster.start()
    dsn = await cluster.create_database("laptop")
    await ask(dsn, "CREATE TABLE kept AS SELECT 7 AS seven")
    await cluster.stop()
    await cluster.stop()
    async with Cluster(folder / "with a space", tcp=tcp) as again:
        await again.start()
        assert again.dsn("laptop") == dsn
        assert await ask(dsn, "SELECT seven FROM kept") == 7
        assert await again.database_names() == {"laptop"}
        await again.drop_database("laptop")
        assert await again.database_names() == frozenset()


async def test_the_owner_is_no_superuser(server: Server) -> None:
    database = await server.fresh()
    async with database.connect() as connection:
        assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert connection.get_server_version().major == server.major
    await server.drop(database)


async def test_a_very_long_and_odd_path_still_gets_a_socket(folder: Path) -> None:
    deep = folder / ("x" * 90) / "ünï'cødé %41"
    async with Cluster(deep) as cluster:
        assert await ask(await cluster.create_database('it\'s "named"'), "SELECT 1") == 1
        short = socket_folder(deep, server_user())
        assert short.is_dir()
    assert not short.exists()


async def test_a_server_left_behind_is_taken_over(folder: Path) -> None:
    left = Cluster(folder / "pg")
    await left.start()
    assert await ask(await Cluster(folder / "pg").start(), "SELECT 1") == 1
    await Cluster(folder / "pg").stop()
    with pytest.raises(OSError, match=r"No such file|refused"):
        await ask(left.dsn("postgres"), "SELECT 1")


async def test_what_goes_wrong_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pg" / "data").mkdir(parents=True)
    (folder / "pg" / "data" / "something").touch()
    with pytest.raises(ClusterFailed, match="initdb failed in"):
        await Cluster(folder / "pg").start()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresMissing) as caught:
        embedded_programs()
    assert 'pip install ".[demo]"' in caught.value.hint


async def test_starting_does_not_block_the_loop(folder: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async with Cluster(folder / "pg"):
        pass
    ticking.cancel()
    assert ticks > 10


async def test_servers_of_a_killed_test_run_are_cleared_by_the_next() -> None:
    script = "import os; from tests.support.databases import EMBEDDED, Servers; "
    script += "servers = Servers(); servers.get(EMBEDDED); print(servers.folder, flush=True); os.kill(os.getpid(), 9)"
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert killed.stdout is not None
    left = Path((await killed.stdout.readline()).decode().strip())
    await killed.wait()
    server = psutil.Process(int((left / EMBEDDED / "data" / "postmaster.pid").read_text().split()[0]))
    Servers().stop()
    assert not left.exists()
    with suppress(psutil.NoSuchProcess):
        assert server.status() == psutil.STATUS_ZOMBIE  # where nobody collects orphans
