"""Backups of random schemas that no catalogue knows, against the oracle: cycles, two owners, tables without a key."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from agent.database import scope_walk
from agent.engine.errors import GateFailed
from agent.tables.catalogue import TableClass, load_catalogue
from agent.tables.errors import BadCatalogue
from protocol.manifest import Kind
from tests.support.backups import back_up
from tests.support.databases import Server
from tests.support.oracle import business_rows, dangling, disagreements, full_rows, look
from tests.support.random_shops import build, random_rules, random_tables


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
async def test_random_schemas_come_as_the_rule_says(server: Server, seed: int) -> None:
    await check(server, seed)


async def check(server: Server, seed: int) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patched:
        if rng.random() < 0.5:  # as if the tables were large
            patched.setattr(scope_walk, "_MANY_REFERRING", 0)
        await check_as_set(server, rng)


async def check_as_set(server: Server, rng: random.Random) -> None:
    tables = random_tables(rng)
    text = random_rules(rng, tables) if rng.random() < 0.5 else None
    note(text or "no tables.toml")
    catalogue = load_catalogue(text)
    database = await server.fresh()
    try:
        async with database.connect() as connection:
            await build(connection, rng, tables)
        try:
            shop = await look(database.dsn, catalogue)
        except BadCatalogue:
            return  # the random tables.toml makes a circle
        unclassified = set(shop.classification.of_class(TableClass.UNCLASSIFIED))
        for business in ("0", "10", "20"):
            try:
                opened, result = await back_up(database.dsn, Kind.BUSINESS, business, catalogue=catalogue)
            except GateFailed as error:
                if not any(name in str(error) for name in unclassified):
                    raise
                continue
            assert disagreements(shop, business_rows(shop, business), opened) == []
            assert dangling(shop, opened) == []
            assert not unclassified & set(opened.rows)
            assert all(
                any(f"Table {name} " in warning for warning in result.manifest.warnings) for name in unclassified
            )
        opened, _ = await back_up(database.dsn, Kind.FULL, catalogue=catalogue)
        assert disagreements(shop, full_rows(shop, set()), opened) == []
        async with database.connect() as connection:
            for name in unclassified:
                quoted = name.replace('"', '""')
                assert len(opened.rows.get(name, ())) == await connection.fetchval(f'SELECT count(*) FROM "{quoted}"')
            await connection.execute(
                'ALTER TABLE businesses ADD "isDemo" boolean; UPDATE businesses SET "isDemo" = id = 20'
            )
        shop = await look(database.dsn, catalogue)
        opened, _ = await back_up(database.dsn, Kind.FULL, catalogue=catalogue)
        assert disagreements(shop, full_rows(shop, {"20"}), opened) == []
        assert dangling(shop, opened) == []
    finally:
        await server.drop(database)
