"""The rows of a backup against an oracle that works them out the slow way."""

from __future__ import annotations

import pytest

from agent.tables.catalogue import TableClass, load_catalogue
from protocol.manifest import Kind, Section
from tests.support.backups import back_up
from tests.support.databases import Database
from tests.support.oracle import STUB, Shop, business_rows, dangling, disagreements, full_rows, look

pytestmark = pytest.mark.every_server


def _of_class(table_class: TableClass) -> set[str]:
    return {name for name, rule in load_catalogue().rules.items() if rule.table_class is table_class}


def _ids(shop: Shop, *, demo: bool | None = None) -> list[str]:
    wanted = {None: "tf", True: "t", False: "f"}[demo]
    return [row["id"] for row in shop.rows["businesses"] if row["isDemo"] in wanted]


@pytest.fixture(params=["everything", "filled"])
async def shop_database(request: pytest.FixtureRequest, database) -> Database:  # type: ignore[no-untyped-def]
    made: Database = await database(request.param)
    return made


async def test_a_business_brings_exactly_the_rows_of_the_rule(shop_database: Database) -> None:
    shop = await look(shop_database.dsn)
    assert len(_ids(shop)) >= 3
    for business in _ids(shop):
        opened, result = await back_up(shop_database.dsn, Kind.BUSINESS, business)
        expected = business_rows(shop, business)
        assert disagreements(shop, expected, opened) == []
        assert dangling(shop, opened) == []
        assert result.manifest.total_rows == len(expected)
        assert result.manifest.business is not None
        assert result.manifest.business.id == business


async def test_no_row_of_another_business_comes_but_as_a_stub(shop_database: Database) -> None:
    shop = await look(shop_database.dsn)
    others = 0
    for business in _ids(shop):
        for place, word in business_rows(shop, business).items():
            belongs = shop.businesses_of(place)
            if belongs and business not in belongs:
                assert word == STUB, place
                others += 1
    assert others


async def test_reference_tables_come_whole(shop_database: Database) -> None:
    shop = await look(shop_database.dsn)
    whole = {name for name, rule in load_catalogue().rules.items() if rule.whole}
    assert len(whole) == 15
    opened, _ = await back_up(shop_database.dsn, Kind.BUSINESS, _ids(shop)[-1])
    for name in whole:
        assert len(opened.rows[name]) == len(shop.rows[name])
        assert not opened.stubs.get(name)


async def test_personal_and_audit_rows_come_only_where_needed(shop_database: Database) -> None:
    shop = await look(shop_database.dsn)
    opened, _ = await back_up(shop_database.dsn, Kind.BUSINESS, _ids(shop, demo=False)[0])
    assert not opened.rows.get("audit_logs")
    assert not opened.rows.get("data_snapshots")


async def test_a_full_backup_holds_126_tables_row_for_row(shop_database: Database) -> None:
    shop = await look(shop_database.dsn)
    opened, result = await back_up(shop_database.dsn, Kind.FULL, include_demo=True)
    assert disagreements(shop, full_rows(shop, set()), opened) == []
    assert {entry.table for entry in result.manifest.tables} == _of_class(TableClass.BUSINESS)
    assert result.manifest.table_count == 126
    assert {entry.section for entry in result.manifest.tables} == {Section.BUSINESS}
    assert not opened.stubs


async def test_a_full_backup_leaves_out_the_demo_shops_but_what_is_needed(shop_database: Database) -> None:
    async with shop_database.connect() as connection:
        if not await connection.fetchval('SELECT EXISTS (SELECT FROM businesses WHERE "isDemo")'):
            await connection.execute(
                'UPDATE businesses SET "isDemo" = true WHERE id = (SELECT max(id) FROM businesses)'
            )
    shop = await look(shop_database.dsn)
    left_out = set(_ids(shop, demo=True))
    opened, result = await back_up(shop_database.dsn, Kind.FULL)
    assert disagreements(shop, full_rows(shop, left_out), opened) == []
    assert dangling(shop, opened) == []
    assert not result.manifest.options.include_demo
    assert not opened.ids("businesses") & left_out
    everything = sum(len(rows) for rows in shop.rows.values())
    assert result.manifest.total_rows < everything


async def test_a_demo_shop_that_is_named_is_taken(shop_database: Database) -> None:
    async with shop_database.connect() as connection:
        await connection.execute('UPDATE businesses SET "isDemo" = true')
    shop = await look(shop_database.dsn)
    business = _ids(shop)[0]
    opened, _ = await back_up(shop_database.dsn, Kind.BUSINESS, business)
    assert disagreements(shop, business_rows(shop, business), opened) == []


async def test_a_full_device_backup_holds_137_tables_and_never_a_transient_one(shop_database: Database) -> None:
    opened, result = await back_up(shop_database.dsn, Kind.FULL_DEVICE, include_demo=True)
    tables = {entry.table: entry.section for entry in result.manifest.tables}
    assert len(tables) == 137
    assert {name for name, section in tables.items() if section is Section.DEVICE} == _of_class(TableClass.DEVICE)
    assert not set(tables) & _of_class(TableClass.TRANSIENT)
    async with shop_database.connect() as connection:
        for name in _of_class(TableClass.DEVICE):
            assert len(opened.rows.get(name, ())) == await connection.fetchval(f"SELECT count(*) FROM {name}")


async def test_transient_tables_are_not_even_looked_into(shop_database: Database) -> None:
    transient = ", ".join(sorted(_of_class(TableClass.TRANSIENT)))
    async with shop_database.connect(admin=True) as connection:
        await connection.execute(f"REVOKE ALL ON {transient} FROM shop")
    shop_ids = _ids(await look(shop_database.dsn))
    for kind, business in ((Kind.FULL, None), (Kind.FULL_DEVICE, None), (Kind.BUSINESS, shop_ids[0])):
        _, result = await back_up(shop_database.dsn, kind, business)
        assert result.manifest.total_rows
