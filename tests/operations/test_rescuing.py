"""Before a laptop is replaced: what can be had of one that does not answer any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agent.home import Home
from agent.operations.rescuing import DRILL, NothingHeld, Rescued, newest, rescue
from agent.operations.workspace import Workspace
from certs.roster import Role
from protocol.manifest import Kind
from tests.support.agents import LOOPBACK, NO_MDNS, Laptop, Shops
from tests.support.archives import NOON, keep, workspace_at


def rescued(laptop: Laptop, device: str) -> Rescued:
    async def work() -> Rescued:
        workspace = Workspace(Home(laptop.home))
        async with workspace.history() as history:
            return await rescue(workspace, history, device)

    return asyncio.run(work())


def test_the_newest_that_others_hold_is_brought_and_proved(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKROOM_LISTEN", NO_MDNS["BACKROOM_LISTEN"])
    office, keeper = shops.laptop("laptop-office-001"), shops.laptop("laptop-keeper-002")
    old = shops.laptop("laptop-sales-003", "shop")
    shops.shop(office, keeper, old, roles={keeper.name: Role.ADMIN})
    with keeper.running(LOOPBACK) as holder:
        with old.running(LOOPBACK) as leaving:
            keeper.knows(leaving.port)
            pulled = keeper.do("pull", old.name, "--full")
        office.knows(holder.port)
        found = rescued(office, old.name)
    assert found.why_not
    assert (found.well, found.proof, found.silent) == (True, DRILL, ())
    assert [each.backup.id for each in found.backups] == [pulled["bundle_id"]]
    with pytest.raises(NothingHeld, match=keeper.name):
        rescued(office, keeper.name)


async def test_of_many_the_newest_full_one_and_what_is_newer_count(tmp_path: Path) -> None:
    laptop = workspace_at(tmp_path / "home")
    async with laptop.history() as history:
        made = [
            await keep(laptop, history, NOON + timedelta(hours=hours), kind)
            for hours, kind in enumerate((Kind.BUSINESS, Kind.FULL, Kind.FULL, Kind.FULL_DEVICE, Kind.BUSINESS))
        ]
    assert newest(tuple(made)) == (made[2], made[4])
    assert newest((made[0], made[1])) == (made[1],)
    assert newest((made[3],)) == ()
