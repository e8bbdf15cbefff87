"""Of parts of tables of which few rows were touched the earlier bundle's frames are taken without these: same rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agent.engine import backup as making
from agent.engine import touched
from agent.engine.backup_rows import entries_of
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choosing import Choosing
from protocol.frames import Codec
from protocol.reader import BundleReader, FrameRead
from tests.engine.test_backup_again import Office
from tests.engine.test_backup_parts import Reads, reads
from tests.engine.test_restore_known import Pushes
from tests.support.databases import Database
from tests.support.restores import OFFICE, Laptop, verify_as
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair", "reads"]

PART = 8
SHOP = """
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, total integer,
    body text, "updatedAt" timestamp(3)) WITH (autovacuum_enabled = off);
CREATE TABLE lines ("saleId" text NOT NULL REFERENCES sales ON DELETE CASCADE, place integer, body text,
    PRIMARY KEY ("saleId", place)) WITH (autovacuum_enabled = off, fillfactor = 60);
CREATE TABLE notes (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, body text)
    WITH (autovacuum_enabled = off);
"""
ROWS = """
INSERT INTO sales SELECT 's' || n, 'b' || 1 + (n % 5 = 0)::int, n, repeat('x', 200 + n % 30), '2026-01-01'
    FROM generate_series(1, 4000) n;
INSERT INTO notes SELECT 'n' || lpad(n::text, 5, '0'), 'b1', E'tab\\t \\\\ and\\nmore' FROM generate_series(1, 3000) n;
"""
LINES = """
UPDATE sales SET "businessId" = 'b1';
INSERT INTO lines SELECT 's' || 1 + n / 4, n % 4, 'line ' || n FROM generate_series(0, 7999) n;
"""


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touched, "LEAST_ROWS", 100)
    monkeypatch.setattr(touched, "_SMALL_BYTES", 2_000)


@pytest.fixture
async def office(laptop: Callable[..., Awaitable[Laptop]]) -> Office:
    made = Office(await laptop(SHOP + ROWS), PART)
    await made.back_up(read=True)
    return made


def cut_frames(office: Office) -> int:
    reader = BundleReader()
    events = reader.feed(office.path.read_bytes())
    return sum(isinstance(event, FrameRead) and event.frame.codec is Codec.CUT for event in events)


SCATTERED = "UPDATE sales SET total = -1 WHERE abs(hashtext(id)) % 100 = 3"


async def test_scattered_rows_are_left_out_of_their_frames(office: Office, reads: Reads) -> None:
    assert office.known is not None
    parts = len(office.known.parts["sales"].parts)
    assert parts > 10
    await office.laptop.execute(SCATTERED)
    assert await reads.of(office, read=True) == []
    assert cut_frames(office) > parts / 2
    # And again: other rows, and those that came, which are most of the part in which they are.
    await office.laptop.execute(SCATTERED.replace("= 3", "IN (3, 7)"))
    assert len(await reads.of(office, read=True)) <= 2
    assert cut_frames(office) > parts / 2
    await office.laptop.execute("UPDATE notes SET body = body || 'y' WHERE id LIKE '%77'")
    assert await reads.of(office, "notes", read=True) == []
    await office.back_up(read=False)


async def test_what_is_deleted_is_read(office: Office, reads: Reads) -> None:
    await office.laptop.execute(SCATTERED)
    await office.laptop.execute("DELETE FROM sales WHERE id = 's1001'")
    assert len(await reads.of(office, read=True)) == 1
    assert cut_frames(office)
    # One goes and another comes in its stead: as many as before, and not the same.
    await office.laptop.execute(
        "DELETE FROM sales WHERE id = 's2001'; INSERT INTO sales SELECT 'new', 'b1', 1, 'x', '2026-01-01'"
    )
    assert len(await reads.of(office, read=True)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sales SET id = id || 'x' WHERE id IN ('s11', 's1011', 's2011')",
        "UPDATE sales SET \"businessId\" = 'b2' WHERE id IN ('s11', 's1011', 's2011')",
        "UPDATE sales SET \"businessId\" = 'b1' WHERE id IN ('s10', 's1010', 's2010')",
        "UPDATE sales SET total = 0 WHERE id IN ('s10', 's1010')",
        "UPDATE sales SET total = 0 WHERE id = 's11'; UPDATE sales SET total = 1 WHERE id = 's11'",
        "BEGIN; UPDATE sales SET total = 0 WHERE id = 's11'; ROLLBACK; UPDATE sales SET total = 1 WHERE id = 's1001'",
        "BEGIN; SAVEPOINT one; UPDATE sales SET total = 0 WHERE id = 's11'; RELEASE one; DELETE FROM sales "
        "WHERE id = 's12'; COMMIT",
        "UPDATE sales SET total = 0 WHERE id = 's11'; VACUUM sales; UPDATE sales SET total = 0 WHERE id = 's2222'",
        "CREATE TABLE other () INHERITS (sales); UPDATE sales SET total = 0 WHERE id = 's11'; "
        "INSERT INTO other SELECT * FROM sales WHERE id = 's11'; DELETE FROM ONLY sales WHERE id = 's13'",
        "UPDATE sales SET id = CASE id WHEN 's11' THEN 's1001' ELSE 's11' END WHERE id IN ('s11')",
        "DELETE FROM sales",
        "UPDATE sales SET total = total + 1",
        "UPDATE notes SET body = repeat('long', 700000) WHERE id = 'n00007'; UPDATE notes SET body = '' "
        "WHERE id = 'n00008'",
    ],
)
async def test_rows_are_those_of_a_backup_from_nothing(office: Office, statement: str) -> None:
    await office.laptop.execute("DELETE FROM sales WHERE id = 's1001'" if "CASE" in statement else "SELECT 1")
    await office.back_up()
    for each in statement.split("; ") if "VACUUM" in statement else [statement]:
        await office.laptop.execute(each)
    await office.back_up(read=True)
    await office.laptop.execute(SCATTERED)
    await office.back_up()


async def test_who_was_at_work_at_the_mark_is_seen(office: Office) -> None:
    database: Database = office.laptop.database
    async with database.connect() as first, database.connect() as second:
        await first.execute("BEGIN; UPDATE sales SET total = 7 WHERE id IN ('s11', 's1011')")
        await second.execute("BEGIN; DELETE FROM sales WHERE id = 's2011'; INSERT INTO sales VALUES ('z', 'b1')")
        await office.laptop.execute(SCATTERED)
        await office.back_up(read=True)
        await first.execute("COMMIT")
        await office.back_up(read=True)
        await second.execute("ROLLBACK")
        await office.back_up()
        await office.laptop.execute(SCATTERED.replace("= 3", "= 4"))
        await office.back_up()
        assert cut_frames(office)


async def test_keys_of_several_columns_and_rows_that_stay_on_their_page(
    laptop: Callable[..., Awaitable[Laptop]], reads: Reads
) -> None:
    office = Office(await laptop(SHOP + ROWS + LINES), PART)
    await office.back_up(read=True)
    assert office.known is not None
    assert len(office.known.parts["lines"].parts) > 4
    for residue in range(4):
        await office.laptop.execute(f"UPDATE lines SET body = body || 'y' WHERE abs(hashtext(body)) % 60 = {residue}")
        assert await reads.of(office, "lines", read=True) == []
        assert cut_frames(office)


KEYS = """
CREATE TABLE {} ("businessId" text NOT NULL REFERENCES businesses, body text, {}) WITH (autovacuum_enabled = off);
"""


@pytest.mark.parametrize(
    ("columns", "rows", "changes"),
    [
        (
            "no integer NOT NULL, id text GENERATED ALWAYS AS ('s' || no::text) STORED PRIMARY KEY",
            "'b1', repeat('x', 200), n",
            "UPDATE sales SET body = 'y' WHERE no = 1500",
        ),
        (
            "id text PRIMARY KEY",
            "'b1', repeat('x', 60), CASE n WHEN 1 THEN '' ELSE n::text END",
            "UPDATE sales SET body = 'e' WHERE id IN ('', '4000')",
        ),
        (
            "id text PRIMARY KEY",
            "'b1', repeat('x', 60), CASE n WHEN 1 THEN '' ELSE n::text END",
            "UPDATE sales SET body = 'e' WHERE id = '' OR id::int % 50 = 0; DELETE FROM sales WHERE id = '3001'",
        ),
        (
            "id text PRIMARY KEY",
            "'b1', repeat('x', 60), E'a\\tb\\n\\\\' || n",
            "UPDATE sales SET body = 'e' WHERE id LIKE '%00'",
        ),
        ("a numeric, b text, PRIMARY KEY (a, b)", "'b1', 'x', n, ''", "UPDATE sales SET a = a * 1.0 WHERE a % 90 = 0"),
    ],
    ids=["generated", "empty", "empty and gone", "escaped", "numeric"],
)
async def test_keys_of_every_kind(
    laptop: Callable[..., Awaitable[Laptop]], columns: str, rows: str, changes: str
) -> None:
    filled = f"INSERT INTO sales SELECT {rows} FROM generate_series(1, 5000) n;"
    office = Office(await laptop(KEYS.format("sales", columns) + filled), PART)
    await office.back_up(read=True)
    for each in changes.split("; "):
        await office.laptop.execute(each.replace("id::int", "nullif(id, '')::int"))
    await office.back_up(read=True)


async def test_rows_that_became_long_are_not_held(
    office: Office, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touched, "_MOST_YOUNG_BYTES", 1 << 20)
    monkeypatch.setattr(touched, "_PARTS_AT_ONCE", 3)
    await office.laptop.execute(SCATTERED.replace("total = -1", "body = repeat('long', 25000)"))
    assert len(await reads.of(office, read=True)) > 10
    assert not cut_frames(office)


async def test_where_much_was_touched_all_is_read(office: Office, reads: Reads) -> None:
    await office.laptop.execute("UPDATE sales SET total = 0 WHERE abs(hashtext(id)) % 10 = 0")
    assert len(await reads.of(office, read=True)) > 10
    assert not cut_frames(office)


async def test_bundles_that_are_not_packed_are_read(laptop: Callable[..., Awaitable[Laptop]], reads: Reads) -> None:
    office = Office(await laptop(SHOP + ROWS), PART)
    await office.make(read=True, compress=False)
    await office.laptop.execute(SCATTERED)
    assert len(await reads.of(office, read=True, compress=False)) > 5
    assert not cut_frames(office)


async def test_an_earlier_bundle_that_was_damaged_is_not_built_on(office: Office) -> None:
    await office.laptop.execute(SCATTERED)
    whole = bytearray(office.path.read_bytes())
    whole[len(whole) // 2] ^= 1
    office.path.write_bytes(whole)
    await office.back_up(read=True)
    assert not cut_frames(office)


async def test_a_second_reader_that_comes_late_changes_nothing(
    laptop: Callable[..., Awaitable[Laptop]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not take pieces away that were planned meanwhile: nobody else would read them."""
    monkeypatch.setattr(making, "WORTH_A_READER", 0)
    shared = """
    CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE);
    ALTER TABLE sales ADD COLUMN "userId" text REFERENCES users;
    INSERT INTO users SELECT 'u' || n, n || '@x' FROM generate_series(1, 9) n;
    UPDATE sales SET "userId" = 'u' || 1 + total % 9;
    """
    office = Office(await laptop(SHOP + ROWS + shared), PART)
    await office.back_up()
    await office.laptop.execute(SCATTERED)
    done, decided = asyncio.Event(), Choosing._decide

    async def late(choosing: Choosing, connection: Any) -> bool:
        could = await decided(choosing, connection)
        await asyncio.wait_for(done.wait(), 20)
        return could

    async def described(*arguments: Any, **options: Any) -> Any:
        entries = await entries_of(*arguments, **options)
        asyncio.get_running_loop().call_soon(done.set)
        return entries

    monkeypatch.setattr(Choosing, "_decide", late)
    monkeypatch.setattr(making, "entries_of", described)
    async with asyncio.timeout(20):
        made = await office.make(read=True)
    assert len(made.rows["users"]) == 9
    assert cut_frames(office)


@pytest.fixture
def files() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Chain(Pushes):
    """Pushes of what an office backs up, each on the one before."""

    def __init__(self, office: Office, there: Laptop, files: ExitStack) -> None:
        super().__init__(office.laptop, there, files)
        self.office = office
        self.times = 0

    async def go_on(self) -> None:
        self.times += 1
        await self.office.back_up()
        path = self.office.path.with_name(f"{self.times}.bundle")
        path.write_bytes(self.office.path.read_bytes())
        bundle: VerifiedBundle = await verify_bundle(path, verify_as(OFFICE))
        plainly = await self.there.plan(bundle)
        told = self.told(bundle)
        assert await self.there.plan(bundle, earlier=told) == plainly
        result = await self.there.restore(bundle, expected=plainly.digest, earlier=told)
        if result.known is not None:
            self.earlier = self.known(result.known, bundle)
        again = await self.there.plan(bundle)
        assert not again.totals.changes


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_people_do(
    pair: Callable[..., Awaitable[tuple[Laptop, Laptop]]], files: ExitStack, seed: int
) -> None:
    chance = random.Random(seed)
    here, there = await pair(SHOP, ROWS + (LINES if seed % 2 else ""))
    office = Office(here, chance.choice([4, 8, 32]))
    chain = Chain(office, there, files)
    await chain.go_on()
    cut = 0
    for _ in range(6):
        for _ in range(chance.randrange(1, 5)):
            residue = chance.randrange(200)
            table, key = chance.choice([("sales", "id"), ("notes", "id"), ("lines", '"saleId" || place')])
            where = f"abs(hashtext({key})) % 200 = {residue}"
            statement = chance.choice(
                [
                    f"UPDATE {table} SET body = 'changed {residue}' WHERE {where}",
                    f"UPDATE {table} SET body = body WHERE {where}",
                    f"UPDATE {table} SET body = 'changed {residue}' WHERE {where}",
                    f"DELETE FROM {table} WHERE {where} AND {chance.randrange(3)} = 0",
                    f"INSERT INTO sales SELECT md5(random()::text), 'b1', n FROM generate_series(1, {residue}) n",
                    f"VACUUM {table}",
                ]
            )
            await here.execute(statement)
        await chain.go_on()
        cut += cut_frames(office)
    assert cut
