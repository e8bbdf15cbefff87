"""A bundle restored into another database, on the platform's own tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.tables.catalogue import load_catalogue
from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Laptop


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
