"""Two laptops that work apart and push to each other end up the same; a mirror stays in its business."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.engine.choices import Choices
from agent.engine.compare import compare
from agent.engine.compare_sides import live_side
from protocol.manifest import Kind
from tests.support.restores import Conflicts, Laptop
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]

SCHEMA = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8"))["schemas"]["shop"]
LOCKED = """
CREATE TABLE expense_domains (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE projects (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, "domainId" integer REFERENCES expense_domains
);
"""
MINE: dict[str, str] = {
    "business_products": 'id, "businessId"',
    "business_orders": 'id, "businessId"',
    "business_order_items": "id",
    "product_images": "id",
    "business_memberships": '(SELECT email FROM users WHERE users.id = "userId"), "businessId"',
    "business_categories": '(SELECT name FROM inventory_domains d WHERE d.id = "domainId"), name',
    "sku_sequences": '"businessId", prefix',
    "projects": 'id, (SELECT name FROM expense_domains d WHERE d.id = "domainId")',
}


class Clerk:
    """Works on one laptop, at random. Numbers of documents carry the laptop's letter; names of shared things do not."""

    def __init__(self, laptop: Laptop, letter: str, rng: random.Random) -> None:
        self.laptop, self.letter, self.rng = laptop, letter, rng
        self.count = 0

    def _id(self) -> str:
        self.count += 1
        return f"{self.letter}{self.count}-{self.rng.randrange(10**6)}"

    async def _any(self, table: str, where: str = "true") -> Any:
        rows = await self.laptop.fetch(f"SELECT id FROM {table} WHERE {where} ORDER BY id")
        return self.rng.choice(rows)["id"] if rows else None

    async def work(self, edits: int) -> None:
        for _ in range(edits):
            await self.rng.choice(
                [self.hire, self.file, self.stock, self.price, self.sell, self.amend, self.count_up, self.plan]
            )()

    async def hire(self) -> None:
        email = f"{self.rng.choice('abcde')}@x"
        await self.laptop.execute(
            "INSERT INTO users VALUES ($1, $2, $2, '2026-01-01') ON CONFLICT DO NOTHING", self._id(), email
        )
        await self.laptop.execute(
            "INSERT INTO business_memberships SELECT $1, $2, id, id, $3 FROM users WHERE email = $4 "
            "ON CONFLICT DO NOTHING",
            self._id(),
            self.rng.choice(["b1", "b1", "b2"]),
            self.rng.choice(["owner", "clerk"]),
            email,
        )

    async def file(self) -> None:
        domain = self.rng.choice(["Food", "Tools", "Toys"])
        await self.laptop.execute(
            "INSERT INTO inventory_domains VALUES ($1, $2) ON CONFLICT DO NOTHING", self._id(), domain
        )
        parent = await self._any("business_categories")
        await self.laptop.execute(
            "INSERT INTO business_categories SELECT $1, 'b1', id, $2, $4 FROM inventory_domains WHERE name = $3 "
            "ON CONFLICT DO NOTHING",
            self._id(),
            self.rng.choice(["Hot", "Cold", "New"]),
            domain,
            parent,
        )

    async def stock(self) -> None:
        identifier = self._id()
        await self.laptop.execute(
            "INSERT INTO business_products VALUES ($1, $2, $1, $3, $4, $5::text::timestamp)",
            identifier,
            self.rng.choice(["b1", "b1", "b2"]),
            await self._any("business_categories"),
            self.rng.randrange(99),
            self._when(),
        )
        await self.laptop.execute("INSERT INTO product_images VALUES ($1, $1, 'u')", identifier)

    async def price(self) -> None:
        await self.laptop.execute(
            'UPDATE business_products SET price = $2, "categoryId" = $4, "updatedAt" = $3::text::timestamp '
            "WHERE id = $1",
            await self._any("business_products"),
            self.rng.randrange(99),
            self._when(),
            await self._any("business_categories"),
        )

    async def sell(self) -> None:
        identifier = self._id()
        await self.laptop.execute(
            "INSERT INTO business_orders VALUES ($1, 'b1', $1, $2, 1, $3::text::timestamp)",
            identifier,
            await self._any("users"),
            self._when(),
        )
        product = await self._any("business_products", "\"businessId\" = 'b1'")
        await self.laptop.execute("INSERT INTO business_order_items VALUES ($1, $1, $2, 1)", identifier, product)

    async def amend(self) -> None:
        """Two orders of one laptop exchange their numbers, now and then."""
        rows = await self.laptop.fetch(
            'SELECT id, "orderNumber" FROM business_orders WHERE id LIKE $1 ORDER BY id', f"{self.letter}%"
        )
        if len(rows) < 2:
            return
        one, other = self.rng.sample(rows, 2)
        for identifier, number in (
            (one["id"], "~"),
            (other["id"], one["orderNumber"]),
            (one["id"], other["orderNumber"]),
        ):
            await self.laptop.execute(
                'UPDATE business_orders SET "orderNumber" = $2, "updatedAt" = clock_timestamp() WHERE id = $1',
                identifier,
                number,
            )

    async def count_up(self) -> None:
        await self.laptop.execute(
            "INSERT INTO sku_sequences VALUES ($1, 'b1', $2, 1, $3::text::timestamp) "
            'ON CONFLICT ("businessId", prefix) '
            'DO UPDATE SET "currentSequence" = sku_sequences."currentSequence" + 1, "updatedAt" = excluded."updatedAt"',
            self._id(),
            self.rng.choice("AB"),
            self._when(),
        )

    async def plan(self) -> None:
        name = self.rng.choice(["Rent", "Fuel", "Wages", "Tax"])
        await self.laptop.execute("INSERT INTO expense_domains (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
        await self.laptop.execute(
            "INSERT INTO projects SELECT $1, 'b1', id FROM expense_domains WHERE name = $2", self._id(), name
        )

    def _when(self) -> str | None:
        return self.rng.choice([None, f"2026-01-{self.rng.randint(1, 28):02}", f"2026-01-{self.rng.randint(1, 28):02}"])


async def rows_of(laptop: Laptop, table: str) -> set[str]:
    where = "" if table in {"business_order_items", "product_images"} else "WHERE \"businessId\" = 'b1'"
    if table == "product_images":
        where = 'WHERE EXISTS (SELECT FROM business_products p WHERE p.id = "productId" AND p."businessId" = \'b1\')'
    return {row["row"] for row in await laptop.fetch(f"SELECT ROW({MINE[table]})::text AS row FROM {table} {where}")}


async def push(source: Laptop, target: Laptop) -> None:
    bundle = await source.bundle(Kind.BUSINESS, "b1")
    plan = await target.plan(bundle, conflicts=Conflicts.NEWER)
    result = await target.restore(bundle, conflicts=Conflicts.NEWER, expected=plan.digest)
    assert result.plan == plan


async def compared(here: Laptop, there: Laptop) -> Any:
    async with (
        live_side(here.database.dsn, here.catalogue, "b1") as ours,
        live_side(there.database.dsn, there.catalogue, "b1") as theirs,
    ):
        return await compare(ours, theirs)


@pytest.mark.parametrize("seed", range(6))
async def test_laptops_that_push_to_each_other_become_the_same_and_lose_nothing(pair: Any, seed: int) -> None:
    rng = random.Random(seed)
    laptops = await pair(SCHEMA + LOCKED)
    clerks = [Clerk(each, letter, rng) for each, letter in zip(laptops, "xy", strict=True)]
    for _ in range(3):
        for clerk in clerks:
            await clerk.work(rng.randint(0, 12))
        if rng.random() < 0.5:
            source, target = rng.sample(laptops, 2)
            await push(source, target)
            await rng.choice(clerks).work(rng.randint(0, 6))
        before = {table: await rows_of(laptops[0], table) | await rows_of(laptops[1], table) for table in MINE}
        first, second = rng.sample(laptops, 2)
        await push(first, second)
        await push(second, first)
        result = await compared(*laptops)
        assert result.identical, [t for t in result.tables.values() if t.differ or t.only_here or t.only_there]
        for table, rows in before.items():
            for each in laptops:
                assert await rows_of(each, table) == rows, table


OUTSIDE = "SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM (SELECT {columns} FROM {table} t WHERE {where}) t"


async def outside(laptop: Laptop) -> dict[str, Any]:
    """A digest of all rows that are not of b1, for each table."""
    others = {
        "businesses": "id <> 'b1'",
        **dict.fromkeys(("business_products", "business_orders", "business_memberships"), "\"businessId\" = 'b2'"),
    }
    return {
        name: await laptop.value(OUTSIDE.format(columns="*", table=name, where=where)) for name, where in others.items()
    }


@pytest.mark.parametrize("seed", range(6))
async def test_a_mirror_makes_the_business_the_same_and_touches_nothing_else(pair: Any, seed: int) -> None:
    rng = random.Random(seed)
    here, there = await pair(SCHEMA + LOCKED)
    for each, letter in ((here, "x"), (there, "y")):
        await Clerk(each, letter, rng).work(25)
    # What is shared is nobody's to delete: it is the same on both laptops here.
    await push(there, here)
    await here.execute("DELETE FROM business_orders WHERE random() < 0.5")
    await here.execute("DELETE FROM business_memberships WHERE random() < 0.3")
    await Clerk(here, "z", rng).work(6)
    bundle = await here.bundle(Kind.BUSINESS, "b1")
    # Renamed references change what other rows hold, not which rows there are: they settle before the digest is taken.
    await there.restore(bundle, conflicts=Conflicts.LOCAL)
    before = await outside(there)
    choices = Choices(mirror=True)
    plan = await there.plan(bundle, choices=choices)
    await there.restore(bundle, choices=choices, expected=plan.digest)
    assert await outside(there) == before
    result = await compared(here, there)
    assert result.identical, [t for t in result.tables.values() if t.differ or t.only_here or t.only_there]
    again = await there.plan(bundle, choices=choices)
    assert not any(c.insert or c.update or c.delete or c.reidentified for c in again.tables.values())
