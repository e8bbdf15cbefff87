"""The snapshot: what it holds, and what is said where it cannot be had."""

from __future__ import annotations

import asyncio

import pytest

from agent.database import snapshot as module
from agent.database.businesses import businesses_of
from agent.database.connect import PINNED
from agent.database.errors import (
    Cancelled,
    ConnectionLost,
    DatabaseError,
    LockTimeout,
    NoRights,
    NoTemporaryTables,
    OutOfMemory,
    OutOfSpace,
    RowSecurity,
    SchemaChanged,
    StatementFailed,
    translating,
)
from agent.database.scope import prepare_scope
from agent.database.snapshot import Snapshot, open_snapshot
from agent.tables.catalogue import TableClass, load_catalogue
from agent.tables.errors import NoBusinesses
from agent.tables.infer import Classification
from tests.conftest import MakeDatabase
from tests.support.databases import Database

pytestmark = pytest.mark.every_server

SHOP = """
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE businesses (id text PRIMARY KEY, name text DEFAULT 'x');
    CREATE TABLE cards (id text PRIMARY KEY, "businessId" text REFERENCES businesses, note text DEFAULT 'none');
    CREATE TABLE sessions (id text PRIMARY KEY);
    INSERT INTO businesses SELECT 'b' || n FROM generate_series(1, 3) n;
    INSERT INTO cards SELECT n, 'b1' FROM generate_series(1, 500) n;
    """


def business_tables(classification: Classification) -> tuple[str, ...]:
    return classification.of_class(TableClass.BUSINESS)


@pytest.fixture
async def shop(database: MakeDatabase) -> Database:
    made = await database()
    async with made.connect() as connection:
        await connection.execute(SHOP)
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PINNED, "lock_timeout", "300ms")


async def rows_of_cards(snapshot: Snapshot) -> int:
    counted: int = await snapshot.connection.fetchval("SELECT count(*) FROM cards")
    return counted


async def refused(shop: Database) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught:
        async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
            await rows_of_cards(snapshot)
    assert str(caught.value).startswith("The backup ")
    await nobody_is_left(shop)
    return caught.value


async def nobody_is_left(shop: Database) -> None:
    """No connection of ours stays, with its locks and its transaction."""
    async with shop.connect(admin=True) as connection:
        for _ in range(400):
            left = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'backroom%'", shop.name
            )
            if not left:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"{len(left)} connections are left")


async def test_it_sees_one_moment_and_changes_nothing(shop: Database) -> None:
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        async with shop.connect() as other:
            await other.execute("INSERT INTO cards VALUES ('late')")
            await other.execute("INSERT INTO sessions VALUES ('late'); ALTER TABLE sessions ADD more text")
        assert await rows_of_cards(snapshot) == 500
        assert set(snapshot.schema.tables) == {"users", "businesses", "cards", "sessions"}
        with pytest.raises(Exception, match="read-only transaction"):
            await snapshot.connection.execute("DELETE FROM cards")
        await snapshot.connection.execute("ROLLBACK")
    await nobody_is_left(shop)


async def test_no_table_can_be_emptied_or_rebuilt_under_it(shop: Database) -> None:
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        async with shop.connect() as other:
            await other.execute("SET lock_timeout = '100ms'")
            for statement in ("TRUNCATE cards", "ALTER TABLE cards ADD more text", "VACUUM FULL cards"):
                with pytest.raises(Exception, match="lock timeout"):
                    await other.execute(statement)
        assert await rows_of_cards(snapshot) == 500


@pytest.mark.parametrize("lock", ["LOCK TABLE cards", "ALTER TABLE cards ADD more text"])
async def test_a_locked_table_is_named_with_who_holds_it(shop: Database, impatient: None, lock: str) -> None:
    async with shop.connect() as other:
        await other.execute("SET application_name = 'migration'; BEGIN")
        await other.execute(lock)
        error = await refused(shop)
        assert isinstance(error, LockTimeout)
        assert f"another program has locked cards (migration, process {other.get_server_pid()})" in str(error)
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        assert await rows_of_cards(snapshot) == 500


async def test_a_table_that_somebody_waits_to_lock_is_named(shop: Database, impatient: None) -> None:
    async with shop.connect() as reader, shop.connect() as waiter, shop.connect() as watcher:
        await reader.execute("BEGIN; SELECT count(*) FROM cards")
        await waiter.execute("SET application_name = 'prisma'")
        waiting = asyncio.create_task(waiter.execute("ALTER TABLE cards ADD more text"))
        while not await watcher.fetchval("SELECT true FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.02)
        error = await refused(shop)
        assert isinstance(error, LockTimeout)
        assert "cards (prisma, process" in str(error)
        await reader.execute("COMMIT")
        await waiting


async def test_tables_without_rights_are_named(shop: Database) -> None:
    async with shop.connect(admin=True) as admin:
        await admin.execute("REVOKE ALL ON cards, users FROM shop")
    error = await refused(shop)
    assert isinstance(error, NoRights)
    assert str(error) == "The backup failed: the database user may not read cards, users."
    assert "GRANT SELECT" in error.hint


async def test_no_right_to_temporary_tables(shop: Database) -> None:
    async with shop.connect(admin=True) as admin:
        await admin.execute(f"ALTER DATABASE {shop.name} OWNER TO postgres")
        await admin.execute(f"REVOKE TEMPORARY ON DATABASE {shop.name} FROM public")
    error = await refused(shop)
    assert isinstance(error, NoTemporaryTables)
    assert "GRANT TEMPORARY" in error.hint


async def test_row_security_is_never_silent(shop: Database) -> None:
    async with shop.connect(admin=True) as admin:
        await admin.execute("ALTER TABLE cards OWNER TO postgres; GRANT SELECT ON cards TO shop")
        await admin.execute("ALTER TABLE cards ENABLE ROW LEVEL SECURITY")
        await admin.execute("CREATE POLICY few ON cards USING (id = '1')")
    error = await refused(shop)
    assert isinstance(error, RowSecurity)
    assert 'policy for table "cards"' in str(error)
    assert "BYPASSRLS" in error.hint


async def test_a_schema_that_changes_meanwhile_is_read_again(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter(["ALTER TABLE cards ADD more text", "CREATE TABLE extra (id int)"])
    real = prepare_scope

    async def migrating(*arguments: object) -> None:
        await real(*arguments)  # type: ignore[arg-type]
        change = next(changes, None)
        if change:
            async with shop.connect() as other:
                await other.execute(change)

    monkeypatch.setattr(module, "prepare_scope", migrating)
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        assert "extra" in snapshot.schema.tables
        assert snapshot.schema.tables["cards"].column("more") is not None


async def test_a_schema_that_never_rests_is_an_error(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = prepare_scope

    async def migrating(connection: object) -> None:
        await real(connection)  # type: ignore[arg-type]
        async with shop.connect() as other:
            number = await other.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'extra%'")
            await other.execute(f"CREATE TABLE extra{number} (id int)")

    monkeypatch.setattr(module, "prepare_scope", migrating)
    assert isinstance(await refused(shop), SchemaChanged)


async def test_a_table_dropped_before_it_is_locked(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = prepare_scope

    async def dropping(connection: object) -> None:
        await real(connection)  # type: ignore[arg-type]
        async with shop.connect() as other:
            await other.execute("DROP TABLE IF EXISTS cards")

    monkeypatch.setattr(module, "prepare_scope", dropping)
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        assert "cards" not in snapshot.schema.tables


async def test_a_lost_connection(shop: Database) -> None:
    async def lose() -> None:
        async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
            async with shop.connect(admin=True) as admin:
                await admin.execute(f"SELECT pg_terminate_backend({snapshot.connection.get_server_pid()})")
            for _ in range(100):
                await rows_of_cards(snapshot)
                await asyncio.sleep(0.02)

    with pytest.raises(ConnectionLost, match="The backup stopped: the connection to the database was lost"):
        await lose()
    await nobody_is_left(shop)


async def test_a_connection_lost_after_the_last_row_does_no_harm(shop: Database) -> None:
    async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
        assert await rows_of_cards(snapshot) == 500
        async with shop.connect(admin=True) as admin:
            await admin.execute(f"SELECT pg_terminate_backend({snapshot.connection.get_server_pid()}, 5000)")
    await nobody_is_left(shop)


async def test_a_cancelled_statement(shop: Database) -> None:
    async def sleep_and_be_cancelled() -> None:
        async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
            async with shop.connect(admin=True) as admin:
                sleeping = asyncio.create_task(snapshot.connection.execute("SELECT pg_sleep(30)"))
                await asyncio.sleep(0.2)
                await admin.execute(f"SELECT pg_cancel_backend({snapshot.connection.get_server_pid()})")
                await sleeping

    with pytest.raises(Cancelled, match="told to end it"):
        await sleep_and_be_cancelled()
    await nobody_is_left(shop)


async def test_errors_of_the_caller_are_not_the_databases(shop: Database) -> None:
    for theirs in (ConnectionResetError("the peer went away"), OSError("disk"), ValueError("x")):
        with pytest.raises(type(theirs)) as caught:
            async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup"):
                raise theirs
        assert caught.value is theirs
    await nobody_is_left(shop)


async def test_cancellation_closes_the_connection(shop: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with open_snapshot(shop.dsn, load_catalogue(), business_tables, doing="The backup") as snapshot:
            inside.set()
            await snapshot.connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nobody_is_left(shop)


async def test_a_database_that_is_no_platform(database: MakeDatabase) -> None:
    empty = await database()
    with pytest.raises(NoBusinesses):
        async with open_snapshot(empty.dsn, load_catalogue(), business_tables, doing="The backup"):
            pass
    async with empty.connect() as connection:
        with pytest.raises(NoBusinesses):
            await businesses_of(connection, load_catalogue())
    await nobody_is_left(empty)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("53100", OutOfSpace),
        ("53200", OutOfMemory),
        ("57014", Cancelled),
        ("42P01", SchemaChanged),
        ("55P03", LockTimeout),
        ("40P01", LockTimeout),
        ("42501", NoRights),
        ("XX000", StatementFailed),
    ],
)
async def test_what_the_server_says_becomes_a_sentence(shop: Database, state: str, error: type[DatabaseError]) -> None:
    async with shop.connect() as connection:
        with pytest.raises(error) as caught:
            with translating("The restore"):
                await connection.execute(f"DO $$ BEGIN RAISE 'it broke' USING ERRCODE = '{state}'; END $$")
    assert str(caught.value).startswith("The restore ")
    assert "it broke" in str(caught.value)
    assert caught.value.hint
    assert caught.value.code
