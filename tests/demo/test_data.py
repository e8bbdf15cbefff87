"""The demo's rows: complete, linked across businesses, the same every time, and fast."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agent.demo.data import fill, fill_device_state, fill_reference_data
from agent.demo.rows import Rows
from agent.demo.schema import demo_schema
from tests.conftest import MakeDatabase
from tests.support.databases import Database

DEVICE_TABLES = {
    "sync_sessions",
    "full_sync_sessions",
    "sync_nodes",
    "sync_metrics",
    "node_states",
    "sync_events",
    "sync_configurations",
    "offline_queue",
    "device_registry",
    "device_connection_history",
    "network_partitions",
}


async def counts(connection: Any) -> dict[str, int]:
    return {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in demo_schema().tables}


async def digests(connection: Any) -> dict[str, str]:
    return {
        name: await connection.fetchval(f"SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM \"{name}\" t")
        for name in demo_schema().tables
    }


async def test_every_table_has_rows(filled_database: Database) -> None:
    async with filled_database.connect() as connection:
        empty = [name for name, count in (await counts(connection)).items() if not count]
    assert empty == []


async def test_businesses_share_what_a_shop_shares(filled_database: Database) -> None:
    async with filled_database.connect() as connection:

        async def businesses_of(query: str) -> int:
            found = await connection.fetchval(query)
            assert isinstance(found, int)
            return found

        assert await connection.fetchval('SELECT count(*) FROM businesses WHERE "isDemo"') == 1
        assert await connection.fetchval('SELECT count(*) FROM businesses WHERE "isUmbrellaBusiness"') == 1
        assert await connection.fetchval('SELECT count(*) FROM businesses WHERE "umbrellaBusinessId" IS NOT NULL') == 3
        shared = 'SELECT max(n) FROM (SELECT count(DISTINCT "businessId") AS n FROM {} GROUP BY {}) each'
        assert await businesses_of(shared.format("business_memberships", '"userId"')) == 4
        assert await businesses_of(shared.format("print_jobs", '"printerId"')) == 4
        assert await businesses_of(shared.format("employee_business_assignments", '"employeeId"')) == 2
        assert await businesses_of(shared.format("business_products", '"categoryId"')) == 4
        assert await businesses_of(shared.format("business_products", '"supplierId"')) == 4
        assert await connection.fetchval(
            'SELECT count(*) FROM inter_business_loans WHERE "lenderBusinessId" <> "borrowerBusinessId"'
        )


async def test_orders_add_up(filled_database: Database) -> None:
    async with filled_database.connect() as connection:
        wrong = await connection.fetchval("""
            SELECT count(*) FROM business_orders o WHERE subtotal <>
            (SELECT sum("totalPrice") FROM business_order_items i WHERE i."orderId" = o.id)""")
        assert wrong == 0
        foreign = await connection.fetchval("""
            SELECT count(*) FROM business_orders o JOIN business_order_items i ON i."orderId" = o.id
            JOIN product_variants v ON v.id = i."productVariantId" JOIN business_products p ON p.id = v."productId"
            WHERE p."businessId" <> o."businessId" """)
        assert foreign == 0


@pytest.mark.one_server
async def test_the_same_arguments_give_the_same_rows(database: MakeDatabase) -> None:
    found = []
    for seed in (3, 3, 4):
        made = await database("platform")
        async with made.connect() as connection:
            await fill(connection, seed=seed, scale=30, device_name="laptop", node_id="node-a")
            found.append(await digests(connection))
    assert found[0] == found[1]
    assert found[0]["business_orders"] != found[2]["business_orders"]


@pytest.mark.one_server
async def test_checking_keys_at_the_end_changes_nothing(
    database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for large in (10**9, 1):
        monkeypatch.setattr("agent.demo.data._LARGE", large)
        made = await database("platform")
        async with made.connect() as connection:
            await fill(connection, scale=30, device_name="laptop", node_id="node-a")
            keys = await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated")
            found.append((keys, await digests(connection)))
    assert found[0] == found[1]
    assert found[0][0] == 284


async def test_device_state_is_of_one_laptop_alone(database: MakeDatabase) -> None:
    first, second = await database("platform"), await database("platform")
    async with first.connect() as one, second.connect() as two:
        await fill(one, scale=10, device_name="laptop-a", node_id="node-a", peers=("node-b",))
        await fill_device_state(two, device_name="laptop-b", node_id="node-b", peers=("node-a",))
        assert {name for name, count in (await counts(two)).items() if count} == DEVICE_TABLES
        assert await two.fetchval("""SELECT "nodeName" FROM sync_nodes WHERE "nodeId" = 'node-b'""") == "laptop-b"
        for table, column in (("device_registry", "macAddress"), ("sync_events", "eventId"), ("sync_nodes", "id")):
            query = f'SELECT array_agg("{column}") FROM {table}'
            assert not set(await one.fetchval(query)) & set(await two.fetchval(query))


@pytest.mark.one_server
async def test_reference_data_has_other_ids_on_another_laptop(database: MakeDatabase) -> None:
    first, second = await database("filled"), await database("platform")
    async with first.connect() as one, second.connect() as two:
        await fill_reference_data(two, node_id="node-b")
        for table, name in (("permissions", "name"), ("job_titles", "title"), ("benefit_types", "name")):
            here = dict(await one.fetch(f"SELECT {name}, id FROM {table}"))
            there = dict(await two.fetch(f"SELECT {name}, id FROM {table}"))
            assert here.keys() == there.keys()
            assert not set(here.values()) & set(there.values())


@pytest.mark.one_server
async def test_the_default_demo_is_filled_within_five_seconds(platform_database: Database) -> None:
    async with platform_database.connect() as connection:
        started = time.monotonic()
        await fill(connection, device_name="laptop", node_id="node-a")
        assert time.monotonic() - started < 5
        assert await connection.fetchval("SELECT count(*) FROM business_orders") == 3 * 400 + 40


def test_a_row_that_lacks_a_parent_or_names_no_column_is_refused() -> None:
    rows = Rows(1)
    with pytest.raises(KeyError, match="refers to another table"):
        rows.add("accounts")
    with pytest.raises(KeyError, match="no column colour"):
        rows.add("users", colour="red")
