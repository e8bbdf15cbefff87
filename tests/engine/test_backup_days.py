"""Whatever people do between two backups, the second has the rows that a backup from nothing has."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest

from agent.engine import backup as making
from tests.engine.test_backup_again import Office
from tests.engine.test_backup_parts import PART, ROWS, SALE, SHOP
from tests.support.restores import Laptop
from tests.support.shops import laptop

__all__ = ["laptop"]


class Days:
    """What people and servers do to the table between two backups, chosen by chance."""

    def __init__(self, office: Office, rng: random.Random, others: AsyncExitStack) -> None:
        self.office = office
        self.rng = rng
        self._others = others
        self._open: list[asyncpg.Connection] = []
        self._last = 400

    async def pass_by(self) -> None:
        doings = (
            *(self._change, self._change, self._add, self._remove, self._aborted, self._nested, self._begin, self._end),
            *(self._rarely, self._seen_by_another, self._lines, self._one_business),
        )
        for _ in range(self.rng.randint(0, 4)):
            with suppress(asyncpg.LockNotAvailableError):
                await self.rng.choice(doings)()

    async def _do(self, statement: str, connection: asyncpg.Connection | None = None) -> None:
        # Nobody waits for those who were left at work.
        if connection is not None:
            await connection.execute(f"SET LOCAL lock_timeout = '50ms'; {statement}")
            return
        async with self.office.laptop.database.connect() as own:
            await own.execute("SET lock_timeout = '50ms'")
            await own.execute(statement)

    def _some(self) -> str:
        start = self.rng.randint(1, self._last)
        return f"id BETWEEN {start} AND {start + self.rng.choice((0, 0, 3, 60))}"

    def _update(self) -> str:
        change = self.rng.choice(
            ("total = total + 1", "body = body || 'y'", "\"businessId\" = 'b' || 1 + (id + total) % 2")
        )
        return f"UPDATE sales SET {change} WHERE {self._some()}"

    async def _change(self) -> None:
        await self._do(self._update())

    async def _add(self) -> None:
        count = self.rng.choice((1, 5, 80))
        await self._do(
            f"INSERT INTO sales SELECT {SALE} FROM generate_series({self._last + 1}, {self._last + count}) n"
        )
        self._last += count

    async def _remove(self) -> None:
        await self._do(f"DELETE FROM sales WHERE {self._some()}")

    async def _aborted(self) -> None:
        await self._do(f"BEGIN; {self._update()}; DELETE FROM sales WHERE {self._some()}; ROLLBACK")

    async def _nested(self) -> None:
        fate = self.rng.choice(("ROLLBACK TO s", "RELEASE s"))
        await self._do(f"BEGIN; {self._update()}; SAVEPOINT s; {self._update()}; {fate}; {self._update()}; COMMIT")

    async def _lines(self) -> None:
        """Rows that are in by their sales."""
        sale, name = self.rng.randint(1, 400), self.rng.randint(1, 10**9)
        await self._do(
            self.rng.choice(
                (
                    f"UPDATE lines SET body = body || 'y' WHERE \"saleId\" % 100 = {sale % 100}",
                    f'UPDATE lines SET "saleId" = "saleId" WHERE "saleId" < {sale}',
                    f"INSERT INTO lines SELECT {name} + id, id, repeat('z', 300) FROM sales WHERE {self._some()}",
                    f'DELETE FROM lines WHERE "saleId" BETWEEN {sale} AND {sale + 5}',
                )
            )
        )

    async def _one_business(self) -> None:
        await self._do("UPDATE sales SET \"businessId\" = 'b1' WHERE \"businessId\" <> 'b1'")

    async def _seen_by_another(self) -> None:
        await self._do(f"BEGIN; SELECT FROM sales WHERE {self._some()} FOR UPDATE; COMMIT")

    async def _begin(self) -> None:
        """Somebody begins to work, and is still at it when the backups come."""
        if len(self._open) < 2:
            connection = await self._others.enter_async_context(self.office.laptop.database.connect())
            self._open.append(connection)
            await connection.execute("BEGIN; INSERT INTO notes VALUES ('at work')")
            with suppress(asyncpg.LockNotAvailableError):
                await connection.execute("SAVEPOINT before")
                await self._do(self._update(), connection)
                return
            await connection.execute("ROLLBACK TO before")

    async def _end(self) -> None:
        if self._open:
            connection = self._open.pop(0)
            with suppress(asyncpg.LockNotAvailableError):
                await connection.execute("SAVEPOINT before")
                await self._do(self._update(), connection)
                await connection.execute(self.rng.choice(("COMMIT", "COMMIT", "ROLLBACK")))
                return
            await connection.execute("ROLLBACK")

    async def _rarely(self) -> None:
        """What moves, freezes or exchanges rows."""
        again = f"INSERT INTO sales SELECT {SALE} FROM generate_series(1, {self._last}) n"
        await self._do(
            self.rng.choice(
                (
                    "VACUUM (TRUNCATE) sales",
                    "VACUUM (FREEZE) sales",
                    "VACUUM FULL sales",
                    "CLUSTER sales USING sales_pkey",
                    f"TRUNCATE sales CASCADE; {again}",
                    f"BEGIN; TRUNCATE sales CASCADE; {again}; ROLLBACK",
                    "ALTER TABLE sales ADD COLUMN IF NOT EXISTS more integer DEFAULT 7",
                    "ALTER TABLE sales DROP COLUMN IF EXISTS more",
                )
            )
        )


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_rows_whatever_people_do(
    laptop: Callable[..., Awaitable[Laptop]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    if seed % 2:
        monkeypatch.setattr(making, "WORTH_A_READER", 0)
    office = Office(await laptop(SHOP + ROWS), PART)
    kept = 0
    async with AsyncExitStack() as others:
        days = Days(office, random.Random(seed), others)
        for _ in range(12):
            await office.back_up()
            kept += office.kept
            await days.pass_by()
        await office.back_up()
    assert kept
