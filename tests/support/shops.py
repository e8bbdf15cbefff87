"""Small schemas for tests of the engine: a businesses table and whatever the test is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.tables.catalogue import load_catalogue
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Laptop

BUSINESSES = """
CREATE TABLE businesses (id text PRIMARY KEY, name text NOT NULL, "isDemo" boolean NOT NULL DEFAULT false);
INSERT INTO businesses VALUES ('b1', 'Grill'), ('b2', 'Clothes');
"""

MakeLaptop = Callable[..., Awaitable[Laptop]]


@pytest.fixture
def laptop(database: MakeDatabase, tmp_path: Path) -> MakeLaptop:
    """Makes a laptop with the given schema (SQL) after the businesses; ``tables`` is the text of a tables.toml."""

    async def make(sql: str, *, node: str = OFFICE, tables: str | None = None, businesses: str = BUSINESSES) -> Laptop:
        made = Laptop(await database(), tmp_path, node, load_catalogue(tables))
        await made.execute(businesses + sql)
        return made

    return make


@pytest.fixture
def pair(laptop: MakeLaptop) -> Callable[..., Awaitable[tuple[Laptop, Laptop]]]:
    """Makes two laptops with the same schema; ``here`` is SQL for the first alone, ``there`` for the second."""

    async def make(sql: str, here: str = "", there: str = "", tables: str | None = None) -> tuple[Laptop, Laptop]:
        first = await laptop(sql + here, node=OFFICE, tables=tables)
        second = await laptop(sql + there, node=KITCHEN, tables=tables)
        return first, second

    return make


__all__ = ["BUSINESSES", "laptop", "pair"]
