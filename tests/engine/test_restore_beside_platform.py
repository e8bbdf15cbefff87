"""The platform goes on working while a restore is applied: both come out right, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg

from agent.database.merge import Conflicts
from protocol.manifest import Kind
from tests.support.restores import Laptop
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]

TILL = """
CREATE TABLE tills (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id), cash integer NOT NULL,
    "updatedAt" timestamp(3));
CREATE TABLE sales (id text PRIMARY KEY, "tillId" text NOT NULL REFERENCES tills (id), amount integer NOT NULL);
"""
SHARED = "INSERT INTO tills SELECT 't' || n, 'b1', 0, '2020-01-01' FROM generate_series(1, 20) n;"
BROUGHT = """
INSERT INTO sales SELECT 'far' || n, 't' || (1 + n % 20), 1 FROM generate_series(1, 4000) n;
UPDATE tills SET cash = 100, "updatedAt" = '2021-01-01' WHERE id IN ('t1', 't2', 't3');
"""


class Cashier:
    """Books sales like the platform: several tables and rows in one transaction, in any order, a pause in between."""

    def __init__(self, where: Laptop, number: int) -> None:
        self._where = where
        self._number = number
        self._random = random.Random(number)
        self.booked = 0
        self.deadlocks = 0
        self.stop = False

    async def work(self) -> None:
        async with self._where.database.connect() as connection:
            while not self.stop:
                try:
                    async with connection.transaction():
                        await self._book(connection)
                    self.booked += 1
                except asyncpg.DeadlockDetectedError:
                    self.deadlocks += 1

    async def _book(self, connection: Any) -> None:
        till = f"t{self._random.randrange(4, 21)}"
        sale = f"sale-{self._number}-{self.booked}"
        await connection.execute("INSERT INTO sales VALUES ($1, $2, 1)", sale, till)
        await asyncio.sleep(self._random.random() / 200)
        await connection.execute(
            "UPDATE tills SET cash = cash + 1, \"updatedAt\" = now() AT TIME ZONE 'UTC' WHERE id = $1", till
        )


async def test_cashiers_book_all_through_a_restore(pair: Any) -> None:
    first, second = await pair(TILL + SHARED, BROUGHT)
    bundle = await first.bundle(Kind.BUSINESS, "b1")
    cashiers = [Cashier(second, number) for number in range(3)]
    working = [asyncio.create_task(cashier.work()) for cashier in cashiers]
    try:
        await asyncio.sleep(0.2)
        before = [cashier.booked for cashier in cashiers]
        result = await asyncio.wait_for(second.restore(bundle, conflicts=Conflicts.NEWER), 60)
        await asyncio.sleep(0.2)
    finally:
        for cashier in cashiers:
            cashier.stop = True
        await asyncio.gather(*working)
    assert all(cashier.booked > booked > 0 for cashier, booked in zip(cashiers, before, strict=True))
    assert [cashier.deadlocks for cashier in cashiers] == [0, 0, 0]
    booked = sum(cashier.booked for cashier in cashiers)
    assert await second.value("SELECT count(*) FROM sales WHERE id LIKE 'sale-%'") == booked
    assert await second.value("SELECT sum(cash) FROM tills WHERE id NOT IN ('t1', 't2', 't3')") == booked
    assert await second.value("SELECT count(*) FROM sales WHERE id LIKE 'far%'") == 4000
    assert await second.value("SELECT min(cash) FROM tills WHERE id IN ('t1', 't2', 't3')") == 100
    assert result.plan.tables["sales"].insert == 4000
    assert result.plan.tables["tills"].update == 3
