"""A backup reads those parts of tables alone that somebody touched since the last one, and has the same rows."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.database.export import copy_blocks
from agent.engine import backup as making
from agent.engine.known import Known, PartFrames
from protocol.base import records
from protocol.manifest import Kind
from protocol.records import Tag
from tests.engine.test_backup_again import Office, in_some_order
from tests.support.backups import back_up
from tests.support.restores import Laptop
from tests.support.shops import laptop

__all__ = ["laptop"]

# Ten rows on a page that is half full, so that the next version of a row stays on it; four pages are a part.
PART = 4
SHOP = """
CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE);
CREATE TABLE sales (id integer PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, total integer,
    "userId" text REFERENCES users, body text, "updatedAt" timestamp(3))
    WITH (fillfactor = 50, autovacuum_enabled = off);
CREATE TABLE lines (id text PRIMARY KEY, "saleId" integer NOT NULL REFERENCES sales ON DELETE CASCADE, body text)
    WITH (fillfactor = 50, autovacuum_enabled = off);
CREATE TABLE notes (body text);
INSERT INTO users VALUES ('u1', 'a@x'), ('u2', 'b@x');
"""
SALE = "n, 'b' || 1 + n % 2, n, 'u1', repeat('x', 350), '2026-01-01'"
TOUCH = "UPDATE users SET email = email || 'x' WHERE id = 'u2'"
ROWS = f"""
INSERT INTO sales SELECT {SALE} FROM generate_series(1, 400) n;
INSERT INTO lines SELECT 'l' || n, 1 + n % 400, repeat('x', 300) FROM generate_series(1, 200) n;
"""


class Reads:
    """Tells which parts of a table a backup reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._queries: list[str] = []

        async def noted(connection: Any, query: str) -> AsyncGenerator[bytes, None]:
            self._queries.append(query)
            blocks = copy_blocks(connection, query)
            try:
                async for block in blocks:
                    yield block
            finally:
                await blocks.aclose()

        monkeypatch.setattr("agent.engine.reading.copy_blocks", noted)

    async def of(self, office: Office, table: str = "sales", **options: Any) -> list[int]:
        """Their numbers, for a backup that must have all rows. A table that is read as a whole is part 0."""
        self._queries.clear()
        made = await office.make(**options)
        starts = [
            int(query.split("t.ctid >= '(")[1].split(",")[0]) if "t.ctid >= '(" in query else 0
            for query in self._queries
            if f'"{table}" t WHERE' in query
        ]
        fresh, _ = await back_up(office.laptop.database.dsn, Kind.BUSINESS, "b1", part_pages=PART)
        assert in_some_order(made.rows) == in_some_order(fresh.rows)
        return sorted(start // PART for start in starts)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
async def office(laptop: Callable[..., Awaitable[Laptop]]) -> Office:
    """A shop that was backed up once."""
    made = Office(await laptop(SHOP + ROWS), PART)
    await made.back_up(read=True)
    return made


async def parts_of(office: Office, table: str = "sales") -> int:
    """In how many parts the table was read, if they were noted."""
    assert office.known is not None
    return len(office.known.parts[table].parts) if table in office.known.parts else 0


async def part_of(office: Office, sale: int) -> int:
    async with office.laptop.database.connect() as connection:
        page: int = await connection.fetchval("SELECT (ctid::text::point)[0]::int FROM sales WHERE id = $1", sale)
    return page // PART


async def test_only_what_was_touched_is_read(office: Office, reads: Reads) -> None:
    assert office.known is not None
    count = len(office.known.parts["sales"].parts)
    assert count >= 8
    await office.laptop.execute("INSERT INTO notes VALUES ('not in it')")
    await office.laptop.execute(TOUCH)
    assert await reads.of(office, read=True) == []
    assert office.kept >= count
    await office.laptop.execute("UPDATE sales SET total = 0 WHERE id = 201")
    assert await reads.of(office) == [await part_of(office, 201)]
    # A row of another business is on those pages, too: whether it is in is not asked of each row alone.
    await office.laptop.execute("UPDATE sales SET total = 0 WHERE id = 300; DELETE FROM sales WHERE id = 41")
    assert await reads.of(office) == sorted([await part_of(office, 43), await part_of(office, 300)])
    await office.laptop.execute(f"INSERT INTO sales SELECT {SALE} FROM generate_series(401, 500) n")
    assert await reads.of(office) == [*range(count - 1, len(office.known.parts["sales"].parts))]


async def test_rows_that_others_decide_are_read_in_parts_where_all_are_in(office: Office, reads: Reads) -> None:
    assert await parts_of(office, "lines") == 0
    await office.laptop.execute("UPDATE sales SET \"businessId\" = 'b1'")
    await office.make()
    count = await parts_of(office, "lines")
    assert count >= 4
    await office.laptop.execute("UPDATE lines SET body = body || 'y' WHERE id = 'l1'")
    assert await reads.of(office, "lines", read=True) == [0]
    await office.laptop.execute("INSERT INTO lines SELECT 'm' || n, 1, repeat('x', 300) FROM generate_series(1, 9) n")
    assert await reads.of(office, "lines") == [count - 1]
    # One row in the middle of another business: each row is asked for its sale again, and nothing is known of parts.
    await office.laptop.execute("UPDATE sales SET \"businessId\" = 'b2' WHERE id = 101")
    assert await reads.of(office, "lines", read=True) == [0]
    assert await parts_of(office, "lines") == 0
    await office.laptop.execute("UPDATE sales SET \"businessId\" = 'b1' WHERE id = 101")
    assert await reads.of(office, "lines", read=True) == [*range(count)]
    await office.laptop.execute("UPDATE sales SET total = 0")
    assert await reads.of(office, "lines", read=True) == []


async def test_rows_that_move_within_their_table_are_read(office: Office, reads: Reads) -> None:
    for statement in ("CLUSTER sales USING sales_pkey", "VACUUM FULL sales"):
        await office.laptop.execute("DELETE FROM sales WHERE id % 40 = 1")
        await office.make()
        # Moving alone changes no row: all are taken over as long as nothing else is touched.
        await office.laptop.execute(statement)
        assert await reads.of(office, read=False) == []
        await office.laptop.execute(TOUCH)
        assert await reads.of(office, read=True) == [*range(await parts_of(office))]
        await office.laptop.execute(TOUCH)
        assert await reads.of(office, read=True) == []


async def test_a_last_part_that_takes_in_pages_of_another_is_read(office: Office, reads: Reads) -> None:
    """The table becomes shorter, so that what is left behind its last part is of that part, and as many rows of it are
    deleted as come from there."""
    async with office.laptop.database.connect() as connection:
        pages = await connection.fetchval("SELECT pg_relation_size('sales') / 8192")
        # Of the last part more than half, so that it is one; then less than half, so that it belongs to the one before.
        grown = f"INSERT INTO sales SELECT {SALE} FROM generate_series($1::int, $2::int) n"
        last = 400
        while pages % PART != PART - 1:
            last += 1
            await connection.execute(grown, last, last)
            pages = await connection.fetchval("SELECT pg_relation_size('sales') / 8192")
        await office.make()
        count = pages // PART + 1
        assert office.known is not None
        assert len(office.known.parts["sales"].parts) == count
        first_page = (count - 1) * PART
        await connection.execute("DELETE FROM sales WHERE ctid >= $1", (first_page + 1, 0))
        await connection.execute("VACUUM (TRUNCATE) sales")
        assert await connection.fetchval("SELECT pg_relation_size('sales') / 8192") == first_page + 1
        left = await connection.fetchval("SELECT count(*) FROM sales WHERE ctid >= $1", (first_page, 0))
        assert left > 0
        await connection.execute(
            "DELETE FROM sales WHERE ctid IN (SELECT ctid FROM sales WHERE ctid >= $1 AND ctid < $2 LIMIT $3)",
            (first_page - PART, 0),
            (first_page, 0),
            left,
        )
    assert await reads.of(office) == [count - 2]


async def test_an_heir_whose_rows_move_is_seen(laptop: Callable[..., Awaitable[Laptop]], reads: Reads) -> None:
    office = Office(await laptop(SHOP + ROWS), PART)
    await office.laptop.execute(
        "CREATE TABLE old_sales () INHERITS (sales) WITH (autovacuum_enabled = off); "
        f"INSERT INTO old_sales SELECT {SALE} FROM generate_series(1001, 1600) n; DELETE FROM old_sales WHERE id < 1301"
    )
    await office.make()
    assert await reads.of(office, read=False) == []
    await office.laptop.execute(TOUCH)
    assert await reads.of(office, read=True) == []
    await office.laptop.execute("VACUUM FULL old_sales")
    await office.laptop.execute(TOUCH)
    assert await reads.of(office) == [*range(await parts_of(office))]
    # One who brings as many old rows as went is not taken for them.
    await office.laptop.execute("CREATE TABLE more (LIKE sales INCLUDING ALL) WITH (autovacuum_enabled = off)")
    await office.laptop.execute(f"INSERT INTO more SELECT {SALE} FROM generate_series(2001, 2003) n")
    await office.make()
    await office.laptop.execute("DELETE FROM sales WHERE id IN (1, 3, 5); ALTER TABLE more INHERIT sales")
    assert len((await office.back_up(read=True)).rows["sales"]) > 0


@pytest.mark.parametrize("what", ["another run", "long ago", "another size", "odd frames", "fewer frames"])
async def test_what_is_noted_is_only_believed_where_it_fits(office: Office, reads: Reads, what: str) -> None:
    known = office.known
    assert known is not None
    parts, mark = known.parts["sales"], known.mark
    await office.laptop.execute(TOUCH)

    def noted(change: Callable[[int, int, int], tuple[int, int, int]]) -> Known:
        return replace(known, parts={"sales": replace(parts, parts=tuple(change(*part) for part in parts.parts))})

    office.known = {
        "another run": replace(known, mark=replace(mark, server=mark.server + "1")),
        "long ago": replace(known, mark=replace(mark, oldest=mark.oldest - (1 << 30))),
        "another size": replace(known, parts={"sales": replace(parts, pages=PART + 1)}),
        "odd frames": noted(lambda rows, first, count: (rows, first - 1000, count)),
        "fewer frames": noted(lambda rows, first, _: (rows, first, 0)),
    }[what]
    # Frames that do not add up show while the file is written: it is begun anew.
    everything = [*range(len(parts.parts))]
    assert await reads.of(office, sinks=2 if what == "fewer frames" else 1) == everything
    assert await reads.of(office, read=False) == []


async def test_an_earlier_bundle_that_is_damaged_is_done_without(office: Office, reads: Reads) -> None:
    await office.laptop.execute(TOUCH)
    data = bytearray(office.path.read_bytes())
    found = records(lambda position, size: bytes(data[position : position + size]))
    position, size = max((len(whole), position) for position, tag, whole in found if tag is Tag.FRAME)[::-1]
    data[position + size - 1] ^= 1  # the last byte of its rows
    office.path.write_bytes(data)
    assert await reads.of(office) == [*range(await parts_of(office))]


async def test_an_earlier_bundle_that_goes_meanwhile_is_done_without(
    office: Office, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked at, and is cut in the middle when the first of its frames are in the new one already."""
    await office.laptop.execute(TOUCH)
    check = making.check_gates

    async def cut(*arguments: Any) -> None:
        await check(*arguments)
        os.truncate(office.path, office.path.stat().st_size // 2)

    monkeypatch.setattr(making, "check_gates", cut)
    everything = [*range(await parts_of(office))]
    assert await reads.of(office, sinks=2) == everything
    assert office.kept == 0


async def test_a_note_that_is_odd_is_no_note(office: Office) -> None:
    assert office.known is not None
    plain = office.known.as_dict()
    assert Known.of(plain) == office.known
    for odd in ({"sales": 1}, {"sales": ["file", 4, [[1, 2]]]}, {"sales": ["file", "x", []]}, [], None):
        with pytest.raises((KeyError, ValueError, TypeError, AttributeError)):
            Known.of({**plain, "parts": odd})
    assert Known.of(plain).parts["sales"] == PartFrames.of(plain["parts"]["sales"])
