"""Backups by two connections: the same frames as by one, and nothing left behind whatever becomes of either."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from agent.database import part_marks, scope_walk
from agent.database.errors import ConnectionLost
from agent.database.export import copy_blocks
from agent.database.part_marks import Marking
from agent.database.readers import export_snapshot
from agent.database.scope import Scope
from agent.database.snapshot import Snapshot
from agent.engine import backup as making
from agent.engine import reading
from agent.engine.backup import BackupRequest
from agent.engine.backup_rows import fill_scope
from agent.engine.begun import Begun
from agent.engine.errors import GateFailed
from agent.tables.catalogue import load_catalogue
from protocol.frames import EncodedFrame
from protocol.manifest import Kind, Manifest
from protocol.reader import BundleReader, FrameRead
from tests.conftest import MakeDatabase
from tests.engine.test_backup_failures import ActingSink, nothing_is_left
from tests.support.backups import NOW, MemorySink, back_up, open_bundle, origin
from tests.support.databases import Database, Server
from tests.support.random_shops import build, random_tables

SHOP = """
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE businesses (id text PRIMARY KEY, name text, "isDemo" boolean);
    CREATE TABLE cards (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, picture text);
    CREATE TABLE drawings (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses,
                           "userId" text REFERENCES users, picture text);
    CREATE TABLE lines (id text PRIMARY KEY, "drawingId" text NOT NULL REFERENCES drawings,
                        "nextId" text REFERENCES drawings);
    INSERT INTO users SELECT 'u' || n FROM generate_series(1, 50) n;
    INSERT INTO businesses VALUES ('b1', 'One', false), ('b2', 'Two', false), ('demo', 'Demo', true);
    INSERT INTO cards SELECT n, 'b1', repeat(md5(n::text), 300) FROM generate_series(1, 1500) n;
    INSERT INTO drawings SELECT n, CASE n % 3 WHEN 0 THEN 'b1' WHEN 1 THEN 'b2' ELSE 'demo' END, 'u' || 1 + n % 50,
        repeat(md5(n::text), 30) FROM generate_series(1, 6000) n;
    INSERT INTO lines SELECT n, n, CASE WHEN n % 100 = 0 THEN n % 6000 + 1 END FROM generate_series(1, 6000) n;
    """
# In which order joined rows come is the planner's choice, which new statistics may change between two backups.
STEADY = "VACUUM ANALYZE"
# Tables of three pages are read in parts.
backup = partial(making.backup, part_pages=2)
SECOND = "application_name LIKE 'backroom: %second reader'"


@pytest.fixture
async def shop(database: MakeDatabase) -> Database:
    made = await database()
    async with made.connect() as connection:
        await connection.execute(SHOP)
        await connection.execute(STEADY)
    return made


@pytest.fixture(autouse=True)
def two_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a second one however small the tables are."""
    monkeypatch.setattr(making, "WORTH_A_READER", 0)


async def made(dsn: str, request: BackupRequest, sink: MemorySink | None = None) -> tuple[Manifest, list[EncodedFrame]]:
    """The manifest, without what differs from one backup to the next, and the frames of a backup."""
    sink = sink or MemorySink()
    result = await backup(dsn, load_catalogue(), request, origin(), sink, now=lambda: NOW)
    assert sink.committed
    reader = BundleReader()
    frames = [event.frame for event in reader.feed(bytes(sink.data)) if isinstance(event, FrameRead)]
    reader.close()
    return replace(result.manifest, bundle_id="same"), frames


REQUESTS = (
    *(BackupRequest(Kind.BUSINESS, name) for name in ("b1", "b2")),
    BackupRequest(Kind.FULL),
    BackupRequest(Kind.FULL, include_demo=True, compress=False),
    BackupRequest(Kind.FULL_DEVICE, include_demo=True),
)


@pytest.mark.every_server
async def test_the_same_frames_as_by_one_reader(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_WAITING_BYTES", 100_000)
    for request in REQUESTS:
        with monkeypatch.context() as watched:
            readers = watch(watched)
            both = await made(shop.dsn, request)
        assert len(readers) == 2
        with monkeypatch.context() as alone:
            alone.setattr(making, "WORTH_A_READER", 1 << 60)
            assert await made(shop.dsn, request) == both


def watch(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The processes of the server that were read from: the second reader is let begin before the first, and waits for
    that after some pieces."""
    copy, fill = copy_blocks, fill_scope
    readers: set[int] = set()
    begun, both = asyncio.Event(), asyncio.Event()
    pieces = 0

    async def noted(connection: Any, query: str) -> AsyncGenerator[bytes, None]:
        nonlocal pieces
        readers.add(connection.get_server_pid())
        begun.set()
        pieces += 1
        if len(readers) == 2:
            both.set()
        elif pieces > 3:
            await both.wait()
        blocks = copy(connection, query)
        try:
            async for block in blocks:
                yield block
        finally:
            await blocks.aclose()

    async def later(snapshot: Snapshot, scope: Scope, kind: Kind) -> None:
        async with asyncio.timeout(30):
            await begun.wait()
        await fill(snapshot, scope, kind)

    monkeypatch.setattr("agent.engine.reading.copy_blocks", noted)
    monkeypatch.setattr("agent.engine.backup.fill_scope", later)
    return readers


@pytest.mark.every_server
async def test_the_tables_are_marked_by_both_together(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part by one of them: all are counted."""
    monkeypatch.setattr(part_marks, "_PAGES_AT_ONCE", 4)
    marking: set[int] = set()
    go_on = Marking.go_on

    async def noted(work: Marking, connection: Any) -> None:
        marking.add(connection.get_server_pid())
        await go_on(work, connection)

    monkeypatch.setattr(Marking, "go_on", noted)
    watch(monkeypatch)
    known = (await backup(shop.dsn, load_catalogue(), REQUESTS[0], origin(), MemorySink(), now=lambda: NOW)).known
    assert known is not None
    assert len(marking) == 2
    expected = {"users": 50, "businesses": 3, "cards": 1500, "drawings": 6000, "lines": 6000}
    assert {name: rows for name, (_, rows, _) in known.mark.tables.items()} == expected
    assert sum(rows for rows, _, _ in known.parts["drawings"].parts) == 6000


@pytest.mark.parametrize("template", ["everything", "filled"])
async def test_the_platforms_tables(database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    shop = await database(template)
    async with shop.connect() as connection:
        business = await connection.fetchval("SELECT id FROM businesses ORDER BY id LIMIT 1")
        await connection.execute(STEADY)
    for request in (BackupRequest(Kind.BUSINESS, business), *REQUESTS[2:]):
        both = await made(shop.dsn, request)
        with monkeypatch.context() as alone:
            alone.setattr(making, "WORTH_A_READER", 1 << 60)
            assert await made(shop.dsn, request) == both


async def test_random_schemas(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        rng = random.Random(seed)
        shop = await server.fresh()
        async with shop.connect() as connection:
            await build(connection, rng, random_tables(rng))
            await connection.execute(STEADY)
        for request in (BackupRequest(Kind.BUSINESS, "0"), BackupRequest(Kind.FULL)):
            with suppress(GateFailed):
                both = await made(shop.dsn, request)
                with monkeypatch.context() as alone:
                    alone.setattr(making, "WORTH_A_READER", 1 << 60)
                    assert await made(shop.dsn, request) == both
        await server.drop(shop)


async def test_parts_of_a_table_are_its_rows_in_their_order(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute("DELETE FROM lines WHERE id::int % 7 = 0; UPDATE lines SET id = id || 'x'")
        assert await connection.fetchval("SELECT pg_relation_size('lines') / 8192") > 10
    parts, _ = await back_up(shop.dsn, include_demo=True, part_pages=2)
    whole, _ = await back_up(shop.dsn, include_demo=True)
    assert parts.rows == whole.rows
    assert len(whole.rows["lines"]) == 6000 - 857


@pytest.mark.parametrize("what", ["no connection is left", "a table is waited for"])
async def test_one_reader_where_a_second_is_not_to_be_had(
    shop: Database, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    request = REQUESTS[0]
    both = await made(shop.dsn, request)
    waiting: set[asyncio.Task[object]] = set()
    async with shop.connect(admin=True) as admin, shop.connect(admin=True) as other:

        async def prevented(snapshot: Snapshot) -> str:
            if what == "no connection is left":
                await admin.execute(f"ALTER DATABASE {shop.name} CONNECTION LIMIT 0")
            else:
                waiting.add(asyncio.create_task(other.execute("ALTER TABLE lines ADD more text")))
                while not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.sleep(0.01)
            return await export_snapshot(snapshot)

        monkeypatch.setattr("agent.engine.backup.export_snapshot", prevented)
        assert await made(shop.dsn, request) == both
        await asyncio.gather(*waiting)


async def acted_on(shop: Database, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """A backup in which something happens while both read, and wait since little may be read ahead."""
    monkeypatch.setattr(reading, "_WAITING_BYTES", 100_000)
    sink = ActingSink(act)
    tasks = asyncio.all_tasks()
    try:
        request = BackupRequest(Kind.FULL, include_demo=True, compress=False)
        await backup(shop.dsn, load_catalogue(), request, origin(), sink, now=lambda: NOW)
    finally:
        await nothing_is_left(shop, sink, tasks)


@pytest.mark.parametrize("which", [SECOND, f"application_name LIKE 'backroom%' AND NOT {SECOND}"])
async def test_a_reader_that_dies(shop: Database, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    async def kill() -> None:
        async with shop.connect(admin=True) as admin:
            ended = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1 AND {which}"
            while not await admin.fetch(ended, shop.name):
                await asyncio.sleep(0.01)

    with pytest.raises(ConnectionLost, match=r"The backup of table .* stopped: the connection to the database"):
        await acted_on(shop, monkeypatch, kill)


async def test_a_second_reader_that_dies_before_it_reads_is_done_without(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds out how a table is to be read, and its connection breaks then: the first one does that, and all else."""
    request = BackupRequest(Kind.BUSINESS, "b1")
    expected = await made(shop.dsn, request)
    all_in, died = Begun._all_in, []

    async def dying(begun: Begun, connection: Any, name: str) -> bool:
        if not died:
            process = await connection.fetchval("SELECT pg_backend_pid()")
            died.append(await connection.fetchval("SELECT current_setting('application_name')"))
            async with shop.connect(admin=True) as other:
                await other.execute("SELECT pg_terminate_backend($1, 5000)", process)
        return await all_in(begun, connection, name)

    monkeypatch.setattr(Begun, "_all_in", dying)
    assert await made(shop.dsn, request) == expected
    assert len(died) == 1
    assert died[0].endswith("second reader")


async def test_cancelled_while_both_read(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = asyncio.Event()

    async def stall() -> None:
        async with shop.connect(admin=True) as admin:
            while not await admin.fetch(f"SELECT FROM pg_stat_activity WHERE datname = $1 AND {SECOND}", shop.name):
                await asyncio.sleep(0.01)
        reached.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(acted_on(shop, monkeypatch, stall))
    async with asyncio.timeout(30):
        await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_cancelled_at_any_time(shop: Database) -> None:
    tasks = asyncio.all_tasks()
    for milliseconds in (30, 70, 100, 130, 160, 200, 300):
        sink = MemorySink()
        running = asyncio.create_task(backup(shop.dsn, load_catalogue(), REQUESTS[3], origin(), sink, now=lambda: NOW))
        await asyncio.sleep(milliseconds / 1000)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        if sink.committed:
            assert len(open_bundle(bytes(sink.data)).rows["cards"]) == 1500
            break
        await nothing_is_left(shop, sink, tasks)


@pytest.mark.parametrize("request_", [REQUESTS[1], REQUESTS[2]], ids=["business", "without demo"])
async def test_a_walk_that_forgets_a_row_is_caught(
    shop: Database, monkeypatch: pytest.MonkeyPatch, request_: BackupRequest
) -> None:
    """The gate asks the values that the walk kept: they are not what the walk made of them."""

    async def forgetful(snapshot: Snapshot, scope: Scope, kind: Kind) -> None:
        await fill_scope(snapshot, scope, kind)
        assert scope.references
        forgotten = scope.place("drawings")
        await snapshot.connection.execute(
            "DELETE FROM pg_temp.backroom_scope WHERE ctid = (SELECT min(ctid) FROM pg_temp.backroom_scope "
            f"WHERE place = {forgotten})"
        )

    monkeypatch.setattr("agent.engine.backup.fill_scope", forgetful)
    sink = MemorySink()
    with pytest.raises(GateFailed, match=r"lines\.nextId: 1 row refer to rows of drawings that are not included"):
        await backup(shop.dsn, load_catalogue(), request_, origin(), sink, now=lambda: NOW)
    assert not sink.opened


async def test_a_walk_that_takes_a_table_for_its_own_is_caught(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the walk did not look at since nothing could be outside is told by the gate from the rows themselves."""

    async def mistaken(_walk: object, _needs: object) -> frozenset[str]:
        return frozenset({"drawings"})

    monkeypatch.setattr("agent.database.scope_walk._Walk._all_own", mistaken)
    sink = MemorySink()
    with pytest.raises(GateFailed, match=r"lines\.nextId: 20 rows refer to rows of drawings that are not included"):
        await backup(shop.dsn, load_catalogue(), REQUESTS[1], origin(), sink, now=lambda: NOW)
    assert not sink.opened


async def test_the_only_business_is_found_without_looking_through_its_large_tables(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop.connect() as connection:
        await connection.execute("TRUNCATE lines; DELETE FROM drawings WHERE id::int % 30 > 0")
        await connection.execute("INSERT INTO lines SELECT n, 30, 60 FROM generate_series(1, 4000) n; ANALYZE")
    found: list[frozenset[str]] = []

    async def seen(snapshot: Snapshot, scope: Scope, kind: Kind) -> None:
        await fill_scope(snapshot, scope, kind)
        found.append(scope.all_own)

    monkeypatch.setattr("agent.engine.backup.fill_scope", seen)
    monkeypatch.setattr(scope_walk, "_MANY_REFERRING", 1000)
    looked = await made(shop.dsn, REQUESTS[0])
    monkeypatch.setattr(scope_walk, "_MANY_REFERRING", 1_000_000)
    assert await made(shop.dsn, REQUESTS[0]) == looked
    assert found == [frozenset({"drawings"}), frozenset()]
