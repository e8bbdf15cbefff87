"""Marks of the tables: they move with every committed change, and say so where the server has lost its counts."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from agent.database.connect import connect
from agent.database.marks import read_mark
from agent.demo.embedded import Cluster
from protocol.requests import TableMark
from tests.conftest import MakeDatabase
from tests.support.databases import EMBEDDED, Database, Server, installed_programs

pytestmark = pytest.mark.every_server
CHANGES = (
    "INSERT INTO orders VALUES (4, 'new')",
    "UPDATE orders SET note = 'changed' WHERE id = 1",
    "UPDATE orders SET note = note WHERE id = 1",
    "DELETE FROM orders WHERE id = 2",
    "TRUNCATE orders",
    "INSERT INTO parted VALUES (1)",
    "ALTER TABLE orders ADD COLUMN more int DEFAULT 7",
    "CREATE TABLE newer (id int)",
)


async def mark(dsn: str) -> TableMark:
    connection = await connect(dsn, application_name="backroom: test")
    try:
        return await read_mark(connection, ("sessions",))
    finally:
        await connection.close()


async def run(dsn: str, *statements: str) -> None:
    """Each on a connection of its own, whose end has the server count."""
    for statement in statements:
        connection = await connect(dsn, application_name="backroom: test")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def moved(dsn: str, before: TableMark) -> TableMark:
    """The mark when it is another one than before: a connection that ended is counted a moment later."""
    async with asyncio.timeout(20):
        while (now := await mark(dsn)) == before:
            await asyncio.sleep(0.02)
    return now


async def made(dsn: str) -> TableMark:
    before = await mark(dsn)
    await run(
        dsn,
        "CREATE TABLE sessions (id int)",
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted DEFAULT",
        "CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    last = await moved(dsn, before)
    while (now := await mark(dsn)) != last:
        last = now
    return now


async def test_every_change_of_a_table_that_counts_is_seen(database: MakeDatabase) -> None:
    empty = await database()
    now = await made(empty.dsn)
    assert now.epoch
    for change in CHANGES:
        before = now
        await run(empty.dsn, change)
        now = await moved(empty.dsn, before)
        assert now.epoch == before.epoch, change
    await run(empty.dsn, "INSERT INTO sessions VALUES (1)", "SELECT * FROM orders", "VACUUM orders", "ANALYZE")
    assert await mark(empty.dsn) == now


async def test_counts_that_were_reset_or_are_not_kept_are_another_epoch(database: MakeDatabase) -> None:
    empty: Database = await database()
    before = await made(empty.dsn)
    for reset in ("SELECT pg_stat_reset_single_table_counters('orders'::regclass)", "SELECT pg_stat_reset()"):
        await run(empty.admin_dsn, reset)
        after = await moved(empty.dsn, before)
        assert after.epoch
        assert after.epoch != before.epoch, reset
        before = after
    await run(empty.admin_dsn, f"ALTER DATABASE {empty.name} SET track_counts = off")
    assert await mark(empty.dsn) == TableMark("", "")


async def test_a_restart_keeps_the_counts_and_a_crash_is_another_epoch(server: Server, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "pg", programs=None if server.name == EMBEDDED else installed_programs()[server.name])
    await cluster.start()
    try:
        dsn = await cluster.create_database("shop")
        before = await made(dsn)
        await cluster.stop()
        await cluster.start()
        assert await mark(dsn) == before
        main = int((tmp_path / "pg" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGQUIT)  # an immediate shutdown, as good as a dead battery
        while psutil.pid_exists(main):
            await asyncio.sleep(0.02)
        await cluster.start()
        assert (await mark(dsn)).epoch not in ("", before.epoch)
    finally:
        cluster.stop_now()
