"""Before a laptop is replaced: what can be had of one that does not answer any more."""

from __future__ import annotations

import asyncio

import pytest

from agent.home import Home
from agent.operations.rescuing import DRILL, NothingHeld, Rescued, rescue
from agent.operations.workspace import Workspace
from certs.roster import Role
from tests.support.agents import LOOPBACK, NO_MDNS, Laptop, Shops


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
            keeper.do("pull", old.name, "--full")
            later = keeper.do("pull", old.name, "--business", "Restaurant ABC")
        office.knows(holder.port)
        found = rescued(office, old.name)
    assert found.why_not
    assert (found.well, found.proof, found.silent) == (True, DRILL, ())
    assert [each.backup.kind for each in found.backups] == ["full", "business-specific"]
    assert found.backups[-1].backup.id == later["bundle_id"]
    with pytest.raises(NothingHeld, match=keeper.name):
        rescued(office, keeper.name)
