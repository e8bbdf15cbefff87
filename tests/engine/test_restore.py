"""A bundle restored into another database, on the platform's own tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.tables.catalogue import load_catalogue
from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Conflicts, Laptop

pytestmark = pytest.mark.every_server


def _classes(*classes: str) -> set[str]:
    return {name for name, rule in load_catalogue().rules.items() if rule.table_class in classes}


@pytest.fixture
async def office(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("filled"), tmp_path, OFFICE)


@pytest.fixture
async def kitchen(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("platform"), tmp_path, KITCHEN)


async def test_a_full_backup_brings_back_every_business_table_row_for_row(office: Laptop, kitchen: Laptop) -> None:
    bundle = await office.bundle(include_demo=True)
    result = await kitchen.restore(bundle)
    theirs, ours = await office.contents(), await kitchen.contents()
    different = {name for name in _classes("business") if theirs[name] != ours[name]}
    assert different <= {"mac_acl_entries"}
    assert result.plan.totals.insert == bundle.manifest.total_rows
    again = await kitchen.restore(bundle)
    assert again.plan.totals.changes == 0
    assert again.plan.totals.unchanged == bundle.manifest.total_rows


async def test_a_plan_changes_nothing_and_says_what_apply_does(office: Laptop, kitchen: Laptop) -> None:
    bundle = await office.bundle()
    before = await kitchen.contents()
    plan = await kitchen.plan(bundle)
    assert await kitchen.contents() == before
    result = await kitchen.restore(bundle, expected=plan.digest)
    assert result.plan == plan


async def test_a_full_device_backup_comes_back_on_its_own_device_alone(
    office: Laptop, kitchen: Laptop, database: MakeDatabase, tmp_path: Path
) -> None:
    bundle = await office.bundle(Kind.FULL_DEVICE, include_demo=True)
    with pytest.raises(ForeignDeviceState, match=r"different device \(laptop-node-office\)"):
        await kitchen.restore(bundle)
    with pytest.raises(ForeignDeviceState):
        await kitchen.plan(bundle)
    empty = Laptop(await database("platform"), tmp_path, OFFICE)
    await empty.restore(bundle)
    theirs, ours = await office.contents(), await empty.contents()
    assert {name for name in _classes("business", "device") if theirs[name] != ours[name]} == set()


async def test_rows_of_every_table_come_back(database: MakeDatabase, tmp_path: Path) -> None:
    source = Laptop(await database("everything"), tmp_path, OFFICE)
    business = await source.value("SELECT id FROM businesses ORDER BY id LIMIT 1")
    full, one, device = (
        await source.bundle(include_demo=True),
        await source.bundle(Kind.BUSINESS, business),
        await source.bundle(Kind.FULL_DEVICE, include_demo=True),
    )
    theirs = await source.contents()
    business_tables, device_tables = _classes("business"), _classes("device")
    assert (len(business_tables), len(device_tables)) == (126, 11)

    target = Laptop(await database("platform"), tmp_path, KITCHEN)
    await target.restore(full)
    ours = await target.contents()
    # The one nullable reference into a device table is NULL on a laptop that has not met the device.
    assert {name for name in business_tables if ours[name] != theirs[name]} == {"mac_acl_entries"}
    assert ours["mac_acl_entries"][0] == theirs["mac_acl_entries"][0]
    assert {name for name in device_tables if ours[name][0]} == {"sync_nodes"}
    assert await target.value('SELECT bool_or("isActive") FROM sync_nodes') is False

    own = Laptop(await database("platform"), tmp_path, OFFICE)
    await own.restore(device)
    ours = await own.contents()
    assert {name for name in business_tables | device_tables if ours[name] != theirs[name]} == set()

    alone = Laptop(await database("platform"), tmp_path, KITCHEN)
    result = await alone.restore(one)
    assert result.plan.totals.insert == one.manifest.total_rows
    assert (await alone.restore(one)).plan.totals.changes == 0
    # Onto a laptop that has everything already nothing changes, whichever row wins.
    for conflicts in Conflicts:
        assert (await target.restore(one, conflicts=conflicts)).plan.totals.changes == 0
