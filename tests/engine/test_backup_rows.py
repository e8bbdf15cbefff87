"""What the rows of a bundle are: exact, whole, in the order of the manifest, of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from agent.database.connect import connect
from agent.database.export import Cutter, copy_blocks
from agent.database.reflect import reflect
from agent.tables.catalogue import load_catalogue
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.backups import MemorySink, Opened, back_up
from tests.support.databases import Database
from tests.support.oracle import NULL, table_rows

SHOP = """
    CREATE TYPE mood AS ENUM ('good', 'b"a\\d');
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE businesses (id text PRIMARY KEY, name text);
    CREATE TABLE "Cards ""x" (
        "no\\te" text, "updatedAt" timestamp(3), "businessId" text NOT NULL REFERENCES businesses, id text PRIMARY KEY,
        twice text GENERATED ALWAYS AS (id || id) STORED, feeling mood, raw bytea);
    CREATE TABLE empty ("businessId" text NOT NULL REFERENCES businesses);
    CREATE TABLE keyless ("businessId" text NOT NULL REFERENCES businesses, n int);
    INSERT INTO businesses VALUES ('b1', 'One'), ('b2', 'Two');
    INSERT INTO keyless SELECT 'b' || 1 + n % 2, n / 4 FROM generate_series(1, 40) n;
    """


@pytest.fixture
async def shop(database: MakeDatabase) -> Database:
    made = await database()
    async with made.connect() as connection:
        await connection.execute(SHOP)
    return made


async def test_awkward_rows_come_exactly(shop: Database) -> None:
    notes = [
        "tab\there",
        "line\nend\r\n",
        "back\\slash",
        "\\N",
        "\\.",
        "",
        " ",
        "ünïcödé \U0001f600",
        "'\"",
        "\x01\x7f",
        None,
    ]
    async with shop.connect() as connection:
        for place, text in enumerate(notes):
            await connection.execute(
                'INSERT INTO "Cards ""x" ("no\\te", id, "businessId", "updatedAt", feeling, raw) '
                "VALUES ($1, $2, 'b1', '2026-01-02 03:04:05.678', 'b\"a\\d', $3)",
                text,
                f"c{place}",
                bytes(range(256)),
            )
        await connection.execute(
            """INSERT INTO "Cards ""x" (id, "businessId", raw)
               SELECT 'big' || n, 'b1', decode(repeat(md5(n::text), 80000), 'hex') FROM generate_series(1, 4) n"""
        )
    opened, result = await back_up(shop.dsn, Kind.BUSINESS, "b1")
    entry = next(entry for entry in result.manifest.tables if entry.table == 'Cards "x')
    assert [column.name for column in entry.columns][:2] == ["id", "updatedAt"]
    assert "twice" not in [column.name for column in entry.columns]
    assert (entry.key, entry.rows, entry.stub) == (("id",), len(notes) + 4, False)
    assert result.manifest.enums == {"mood": ("good", 'b"a\\d')}
    connection = await connect(shop.dsn)
    try:
        schema_rows = await table_rows(connection, await reflect(connection), 'Cards "x')
    finally:
        await connection.close()
    for row in schema_rows:
        row.pop("twice")
    assert sorted(opened.rows['Cards "x'], key=str) == sorted(
        ({column.name: row[column.name] for column in entry.columns} for row in schema_rows), key=str
    )
    by_id = {row["id"]: row["no\\te"] for row in opened.rows['Cards "x']}
    assert by_id["c3"] == "\\\\N"
    assert by_id[f"c{len(notes) - 1}"] == NULL
    plain, uncompressed = await back_up(shop.dsn, Kind.BUSINESS, "b1", compress=False)
    assert plain.rows == opened.rows
    assert uncompressed.bytes > result.bytes
    assert uncompressed.raw_bytes == result.raw_bytes


async def test_tables_without_rows_are_in_the_manifest(shop: Database) -> None:
    opened, result = await back_up(shop.dsn, Kind.BUSINESS, "b1")
    entries = {entry.table: entry.rows for entry in result.manifest.tables}
    assert entries["empty"] == 0
    assert "empty" not in opened.rows
    assert result.manifest.table_count == 2


async def test_equal_rows_of_a_table_without_a_key_all_come(shop: Database) -> None:
    opened, result = await back_up(shop.dsn, Kind.BUSINESS, "b2")
    assert len(opened.rows["keyless"]) == 20
    assert next(entry for entry in result.manifest.tables if entry.table == "keyless").key == ()


async def test_the_parts_of_a_partitioned_table_come_as_one(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(
            """CREATE TABLE visits (id int PRIMARY KEY, "businessId" text REFERENCES businesses) PARTITION BY HASH (id);
               CREATE TABLE visits_0 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 0);
               CREATE TABLE visits_1 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 1);
               CREATE TABLE steps (visit int NOT NULL REFERENCES visits, n int);
               INSERT INTO visits SELECT n, 'b' || 1 + n % 2 FROM generate_series(1, 100) n;
               INSERT INTO steps SELECT n, n FROM generate_series(1, 100) n;"""
        )
    opened, _ = await back_up(shop.dsn, Kind.BUSINESS, "b1")
    assert opened.ids("visits") == opened.ids("steps", "visit") == {str(n) for n in range(2, 101, 2)}


@pytest.mark.parametrize("block_bytes", [1, 50, 1000, 1 << 20])
async def test_blocks_end_with_rows(shop: Database, block_bytes: int) -> None:
    query = "SELECT n, repeat('x', (n * 37 % 200)::int) FROM generate_series(1, 3000) n"
    connection = await connect(shop.dsn)
    try:
        blocks = [block async for block in copy_blocks(connection, query, block_bytes=block_bytes)]
        assert [block async for block in copy_blocks(connection, "SELECT 1 WHERE false")] == []
        assert not connection.is_closed()
    finally:
        await connection.close()
    assert all(block.endswith(b"\n") for block in blocks)
    lines = b"".join(blocks).split(b"\n")[:-1]
    assert [int(line.split(b"\t")[0]) for line in lines] == list(range(1, 3001))


async def _cut(rows: bytes, chunk_bytes: int, block_bytes: int = 5000) -> list[bytes]:
    blocks: list[bytes] = []

    async def put(block: bytes) -> None:
        blocks.append(block)

    cutter = Cutter(put, block_bytes)
    for start in range(0, len(rows), chunk_bytes):
        await cutter.take(rows[start : start + chunk_bytes])
    await cutter.end()
    assert b"".join(blocks) == rows
    assert all(block.endswith(b"\n") for block in blocks)
    return blocks


def _rows(lengths: Iterable[int]) -> list[bytes]:
    return [b"%d\t%s\n" % (number, b"x" * length) for number, length in enumerate(lengths)]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000, 100_000])
async def test_blocks_are_the_same_however_a_driver_cuts_its_chunks(chunk_bytes: int) -> None:
    rows = b"".join(_rows(number * 37 % 200 for number in range(2000)))
    blocks = await _cut(rows, chunk_bytes)
    assert blocks == await _cut(rows, 4096)
    assert all(4375 - 220 < len(block) < 5625 + 220 for block in blocks[:-1])
    long = b"".join(_rows([3, 20_000, 5, 7000, *[9] * 900, 30_000, 30_000, 1]))
    assert await _cut(long, chunk_bytes) == await _cut(long, 4096)


async def test_changed_rows_change_the_blocks_around_them_alone() -> None:
    lengths = [number * 37 % 200 for number in range(20_000)]
    before = await _cut(b"".join(_rows(lengths)), 4096, 50_000)
    rows = _rows(lengths)
    rows[5000] = rows[5000][:-1] + b" longer than before\n"
    rows[9000:9000] = [b"new\t%d\n" % number for number in range(100)]
    del rows[15_000:15_010]
    after = await _cut(b"".join(rows), 4096, 50_000)
    assert len(before) > 30
    assert len(set(after) - set(before)) <= 8


async def test_a_long_row_makes_a_longer_block(shop: Database) -> None:
    query = "SELECT repeat('x', CASE n WHEN 500 THEN 400000 ELSE 10 END) FROM generate_series(1, 1000) n"
    connection = await connect(shop.dsn)
    try:
        blocks = [block async for block in copy_blocks(connection, query, block_bytes=100_000)]
    finally:
        await connection.close()
    assert sum(len(block) for block in blocks) == 999 * 11 + 400_001
    assert len(blocks) > 1
    assert max(map(len, blocks)) < 400_001 + 100_000


async def test_leaving_early_closes_the_connection(shop: Database) -> None:
    connection = await connect(shop.dsn)
    blocks = copy_blocks(connection, "SELECT n FROM generate_series(1, 3000000) n", block_bytes=1000)
    async for _ in blocks:
        break
    await blocks.aclose()
    assert connection.is_closed()


BANK = """
    CREATE TABLE accounts_of (
        id int PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, balance int NOT NULL);
    CREATE TABLE moves (id serial PRIMARY KEY, source int NOT NULL REFERENCES accounts_of ON DELETE CASCADE,
                        target int NOT NULL REFERENCES accounts_of ON DELETE CASCADE, amount int);
    INSERT INTO accounts_of SELECT n, 'b' || 1 + n % 2, 1000 FROM generate_series(1, 2000) n;
    """


async def _write(shop: Database, stop: asyncio.Event) -> int:
    """Move money about, two rows at a time, open and close accounts with their moves; the sum stays what it is."""
    number = 0
    async with shop.connect() as connection:
        while not stop.is_set():
            number += 1
            one, other = (number * 7) % 1990 + 1, (number * 13) % 1990 + 3
            async with connection.transaction():
                await connection.execute("UPDATE accounts_of SET balance = balance - 5 WHERE id = $1", one)
                await connection.execute("UPDATE accounts_of SET balance = balance + 5 WHERE id = $1", other)
                await connection.execute("INSERT INTO moves (source, target) VALUES ($1, $2)", one, other)
                if number % 3 == 0:
                    await connection.execute("INSERT INTO accounts_of VALUES ($1, 'b1', 0)", 10_000 + number)
                    await connection.execute("INSERT INTO moves (source, target) VALUES ($1, $2)", 10_000 + number, one)
                if number % 6 == 0:
                    await connection.execute("DELETE FROM accounts_of WHERE id = $1", 10_000 + number - 3)
            if number % 50 == 0:
                await connection.execute("VACUUM accounts_of")
    return number


def _check_bank(opened: Opened, expected: int) -> None:
    balances = {row["id"]: int(row["balance"]) for row in opened.rows["accounts_of"] + opened.stubs["accounts_of"]}
    assert {row["source"] for row in opened.rows["moves"]} <= set(balances)
    assert {row["target"] for row in opened.rows["moves"]} <= set(balances)
    assert sum(balances.values()) == expected


async def test_a_writer_all_through_the_backup(shop: Database) -> None:
    async with shop.connect() as connection:
        await connection.execute(BANK)
        assert load_catalogue().rules.get("accounts_of") is None
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(shop, stop))

    class SlowSink(MemorySink):
        async def write(self, data: bytes) -> None:
            await asyncio.sleep(0.05)
            await super().write(data)

    try:
        seen = set()
        for _ in range(4):
            opened, result = await back_up(shop.dsn, Kind.FULL, sink=SlowSink())
            _check_bank(opened, 2_000_000)
            seen.add(result.manifest.total_rows)
            part, _ = await back_up(shop.dsn, Kind.BUSINESS, "b1", sink=SlowSink())
            accounts = part.ids("accounts_of") | part.stub_ids("accounts_of")
            assert {row["source"] for row in part.rows["moves"]} <= accounts
            assert {row["target"] for row in part.rows["moves"]} <= accounts
            assert len(part.rows["accounts_of"]) >= 1000
    finally:
        stop.set()
        assert await writing > 20
    assert len(seen) > 1
