"""Two sides of one business: identical, or exactly where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.engine.compare import Comparison, compare
from agent.engine.compare_sides import bundle_side, live_side
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Laptop


async def between(here: Laptop, there: Laptop, business: str) -> Comparison:
    async with (
        live_side(here.database.dsn, here.catalogue, business) as ours,
        live_side(there.database.dsn, there.catalogue, business) as theirs,
    ):
        return await compare(ours, theirs)


@pytest.fixture
async def office(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("filled"), tmp_path, OFFICE)


@pytest.fixture
async def kitchen(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("platform"), tmp_path, KITCHEN)


async def test_a_restored_business_is_identical_and_a_change_is_found(office: Laptop, kitchen: Laptop) -> None:
    business = (await office.fetch('SELECT id, name FROM businesses WHERE NOT "isDemo" ORDER BY id'))[0]["id"]
    bundle = await office.bundle(Kind.BUSINESS, business)
    result = await kitchen.restore(bundle)
    assert result.plan.totals.insert == bundle.manifest.total_rows
    both = await between(office, kitchen, business)
    assert both.identical, both.as_dict()
    assert both.rows > 500
    async with (
        live_side(kitchen.database.dsn, kitchen.catalogue, business) as ours,
        bundle_side(kitchen.database.dsn, bundle) as theirs,
    ):
        assert (await compare(ours, theirs)).identical
    await kitchen.execute("UPDATE business_products SET name = name || '!' WHERE \"businessId\" = $1", business)
    await kitchen.execute(
        "DELETE FROM business_stock_movements WHERE id IN (SELECT min(id) FROM business_stock_movements)"
    )
    await kitchen.execute(
        'INSERT INTO job_titles SELECT (jsonb_populate_record(j, \'{"id": "mine", "title": "mine"}\')).* FROM job_titles j LIMIT 1'
    )
    after = await between(office, kitchen, business)
    changed = {name: table for name, table in after.tables.items() if not table.identical}
    assert set(changed) == {"business_products", "business_stock_movements"}
    assert changed["business_products"].differ == changed["business_products"].rows_here
    assert changed["business_stock_movements"].only_here == 1
    assert after.tables["job_titles"].reference_only_there == 1
