"""Backups that cannot be made: each with its own sentence, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from agent.database.businesses import AmbiguousBusiness, NoSuchBusiness
from agent.database.connect import PINNED
from agent.database.errors import ConnectionLost, LockTimeout, NoRights
from agent.engine.backup import BackupRequest, backup
from agent.engine.errors import GateFailed, NothingToBackUp, RowTooLarge
from agent.engine.progress import Step
from agent.tables.catalogue import load_catalogue
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.backups import NOW, MemorySink, back_up, open_bundle, origin
from tests.support.databases import Database

SHOP = """
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE businesses (id text PRIMARY KEY, name text, "shortName" text);
    CREATE TABLE cards (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, picture text);
    INSERT INTO businesses VALUES ('b1', 'Corner Shop', 'corner'), ('b2', 'Café Zoë', null), ('b3', 'café zoë', null);
    """
BIG = """INSERT INTO cards SELECT n, 'b1', repeat(md5(n::text), 300) FROM generate_series(1, 3000) n"""


@pytest.fixture
async def shop(database: MakeDatabase) -> Database:
    made = await database()
    async with made.connect() as connection:
        await connection.execute(SHOP)
    return made


class ActingSink(MemorySink):
    """Does something at the first write after the manifest."""

    def __init__(self, act: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._act = act
        self.writes = 0

    async def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes == 2:
            await self._act()
        await super().write(data)


async def attempt(shop: Database, sink: MemorySink, kind: Kind = Kind.BUSINESS, business: str | None = "b1") -> None:
    await backup(shop.dsn, load_catalogue(), BackupRequest(kind, business), origin(), sink, now=lambda: NOW)


async def nothing_is_left(shop: Database, sink: MemorySink, tasks: set[asyncio.Task[object]]) -> None:
    assert not sink.committed
    assert asyncio.all_tasks() == tasks
    async with shop.connect(admin=True) as connection:
        for _ in range(100):
            if not await connection.fetch(
                "SELECT FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'backroom%'", shop.name
            ):
                return
            await asyncio.sleep(0.05)
    raise AssertionError("a connection is left")


async def test_a_connection_lost_in_the_middle_of_the_rows(shop: Database) -> None:
    async with shop.connect(admin=True) as admin:
        await admin.execute(BIG)

        async def kill() -> None:
            assert await admin.fetchval(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = $1 AND application_name LIKE 'backroom%'",
                shop.name,
            )

        sink = ActingSink(kill)
        tasks = asyncio.all_tasks()
        with pytest.raises(ConnectionLost, match="The backup of table cards stopped: the connection to the database"):
            await attempt(shop, sink)
    await nothing_is_left(shop, sink, tasks)


async def test_a_backup_cancelled_in_the_middle(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(BIG)
    reached = asyncio.Event()

    async def stall() -> None:
        reached.set()
        await asyncio.sleep(60)

    sink = ActingSink(stall)
    tasks = asyncio.all_tasks()
    running = asyncio.create_task(attempt(shop, sink))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await nothing_is_left(shop, sink, tasks)


@pytest.mark.one_server
async def test_a_backup_cancelled_at_any_time(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(BIG)
    tasks = asyncio.all_tasks()
    for milliseconds in range(5, 400, 40):
        sink = MemorySink()
        running = asyncio.create_task(attempt(shop, sink))
        await asyncio.sleep(milliseconds / 1000)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        if sink.committed:  # cancelled while the connection was closing: the bundle is complete
            assert len(open_bundle(bytes(sink.data)).rows["cards"]) == 3000
            break
        await nothing_is_left(shop, sink, tasks)


@pytest.mark.parametrize("error", [ConnectionResetError("the peer is gone"), OSError(28, "No space left on device")])
async def test_a_sink_that_fails_is_not_taken_for_the_database(shop: Database, error: OSError) -> None:
    async with shop.connect() as connection:
        await connection.execute(BIG)

    async def fail() -> None:
        raise error

    sink = ActingSink(fail)
    tasks = asyncio.all_tasks()
    with pytest.raises(type(error)) as caught:
        await attempt(shop, sink)
    assert caught.value is error
    await nothing_is_left(shop, sink, tasks)


async def test_no_such_business(shop: Database) -> None:
    sink = MemorySink()
    with pytest.raises(NoSuchBusiness, match=r"no business 'Korner Shop' .* Did you mean Corner Shop\?"):
        await attempt(shop, sink, business="Korner Shop")
    assert not sink.opened
    with pytest.raises(NoSuchBusiness):
        await attempt(shop, sink, business="")


async def test_an_ambiguous_name_lists_the_candidates(shop: Database) -> None:
    sink = MemorySink()
    with pytest.raises(AmbiguousBusiness, match=r"any of 2 businesses: .*\(b[23]\); .*\(b[23]\)"):
        await attempt(shop, sink, business="CAFÉ ZOË")
    with pytest.raises(AmbiguousBusiness):
        await attempt(shop, sink, business="cafe-zoe")
    assert not sink.opened


@pytest.mark.parametrize("name", ["b1", "Corner Shop", "corner shop ", "corner", "corner-shop"])
async def test_a_business_by_id_name_or_slug(shop: Database, name: str) -> None:
    opened, _ = await back_up(shop.dsn, Kind.BUSINESS, name)
    assert opened.manifest.business is not None
    assert (opened.manifest.business.id, opened.manifest.business.name) == ("b1", "Corner Shop")


async def test_an_empty_database(database: MakeDatabase) -> None:
    empty = await database("platform")
    sink = MemorySink()
    for kind in (Kind.FULL, Kind.FULL_DEVICE):
        with pytest.raises(NothingToBackUp, match="every table is empty"):
            await attempt(empty, sink, kind, None)
    with pytest.raises(NoSuchBusiness):
        await attempt(empty, sink)
    assert not sink.opened


async def test_no_rights_on_a_table(shop: Database) -> None:
    async with shop.connect(admin=True) as admin:
        await admin.execute("REVOKE SELECT ON cards FROM shop")
    sink = MemorySink()
    with pytest.raises(NoRights, match="may not read cards"):
        await attempt(shop, sink)
    assert not sink.opened


async def test_a_lock_that_is_not_granted(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PINNED, "lock_timeout", "200ms")
    sink = MemorySink()
    async with shop.connect() as other:
        await other.execute("BEGIN; LOCK TABLE cards")
        with pytest.raises(LockTimeout, match="another program has locked cards"):
            await attempt(shop, sink)
    assert not sink.opened


async def test_a_backup_that_would_be_torn_writes_nothing(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(
            """
            CREATE TABLE things (id text PRIMARY KEY);
            CREATE TABLE device_registry (id text PRIMARY KEY, thing text REFERENCES things);
            ALTER TABLE cards ADD thing text REFERENCES things;
            INSERT INTO things VALUES ('t'); INSERT INTO cards VALUES ('c1', 'b1', '', 't'), ('c2', 'b1', '', null);
            """
        )
    sink = MemorySink()
    with pytest.raises(GateFailed) as caught:
        await attempt(shop, sink)
    assert "cards.thing: 1 row refer to things, which is unclassified and does not travel" in str(caught.value)
    assert "tables.toml" in caught.value.hint
    assert not sink.opened
    opened, _ = await back_up(shop.dsn, Kind.FULL)
    assert opened.ids("things") == {"t"}


@pytest.mark.one_server
async def test_a_row_that_no_bundle_can_hold_names_its_table(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute("INSERT INTO cards VALUES ('big', 'b1', repeat('x', 70 << 20))")
    sink = MemorySink()
    with pytest.raises(RowTooLarge, match="table cards has a row that is too long"):
        await attempt(shop, sink)
    assert not sink.committed


async def test_progress_ends_at_all_rows(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(BIG)
    steps: list[Step] = []
    result = await backup(
        shop.dsn,
        load_catalogue(),
        BackupRequest(Kind.BUSINESS, "b1"),
        origin(),
        MemorySink(),
        now=lambda: NOW,
        progress=steps.append,
    )
    assert [step.stage for step in steps[:2]] == ["finding rows", "checking"]
    done = [step.done for step in steps if step.stage == "backing up"]
    assert done == sorted(done)
    assert done[-1] == result.manifest.total_rows == 3001
    assert {step.what for step in steps[2:]} == {"businesses", "cards"}
