"""What an admin decides on a laptop that came back from an older recovery kit: it lasts, or it is not called done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.config import change
from agent.home import Home
from agent.operations import authority, governing
from agent.operations.authority import NotKept, Telling, tell_roster
from agent.operations.devices import revoke
from agent.operations.shops import open_window
from agent.operations.workspace import Workspace
from agent.peers.errors import PeerError
from certs.errors import RosterConflict
from certs.kit import Kit
from certs.roster import Role, Roster
from certs.store import Store
from tests.peers.laptops import Laptop, admit, make_laptop, make_shop

LAPTOPS = ["laptop-admin", "laptop-front", "laptop-x"]


class Came:
    """A shop at version 6, and its admin's laptop from a kit of version 3."""

    def __init__(self, folder: Path) -> None:
        self.lost, self.front, self.x = make_shop(folder, LAPTOPS)
        kit = Kit.decode(self.lost.store.kit().encode())
        for name in ("laptop-a", "laptop-b", "laptop-c"):
            admit(self.lost, make_laptop(folder, name))
        self.back = make_laptop(folder, "laptop-back")
        self.back.store.take_kit(kit)
        self.follow(self.lost)
        assert (self.back.store.roster().version, self.front.store.roster().version) == (3, 6)

    def follow(self, source: Laptop) -> None:
        self.front.store.save_roster(source.store.signed_roster().encode())

    def workspace(self, port: int) -> Workspace:
        listen = ("198.51.100.1",)  # no interface has it: no mDNS
        change(self.back.home, name="laptop-admin", peers=(f"127.0.0.1:{port}",), listen=listen)
        return Workspace(Home(self.back.home.path))


@pytest.fixture
def came(tmp_path: Path) -> Came:
    return Came(tmp_path)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers before the change is made, only afterwards."""
    real = Telling.exchange

    async def exchange(self: Telling, seconds: float) -> dict[str, Roster | PeerError]:
        return {} if seconds == authority.FIRST_SECONDS else await real(self, seconds)

    monkeypatch.setattr(Telling, "exchange", exchange)


async def test_a_revocation_is_made_on_top_of_the_newest_list(came: Came) -> None:
    async with came.front.serve() as server:
        done = await revoke(came.workspace(server.port), "laptop-x")
    assert (done.roster_version, done.told) == (7, ("laptop-front",))
    assert not came.front.store.roster().trusts(came.x.node_id)
    assert len(came.front.store.roster().members) == 6


async def test_a_device_that_the_kit_does_not_know_is_revoked(came: Came) -> None:
    async with came.front.serve() as server:
        assert (await revoke(came.workspace(server.port), "laptop-c")).told == ("laptop-front",)


@pytest.mark.usefixtures("late")
async def test_a_revocation_that_a_newer_list_dropped_is_made_again(came: Came) -> None:
    async with came.front.serve() as server:
        done = await revoke(came.workspace(server.port), "laptop-x")
    assert done.told == ("laptop-front",)
    for laptop in (came.back, came.front):
        assert not laptop.store.roster().trusts(came.x.node_id)
        assert laptop.store.roster().version == done.roster_version == 7


@pytest.mark.usefixtures("late")
async def test_a_label_and_an_alarm_that_a_newer_list_dropped_are_made_again(came: Came) -> None:
    async with came.front.serve() as server:
        workspace = came.workspace(server.port)
        assert (await governing.set_device(workspace, "laptop-x", label="lent")).told == ("laptop-front",)
        assert (await governing.resolve_clone(workspace, "laptop-x")).told == ("laptop-front",)
    member = came.front.store.roster().require(came.x.node_id)
    assert (member.label, member.cleared) == ("lent", 1)


@pytest.mark.usefixtures("late")
async def test_what_is_dropped_again_and_again_is_not_called_done(came: Came, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.revoke

    def revoked(self: Store, node_id: str) -> Roster:
        made = real(self, node_id)
        while came.lost.store.roster().version <= made.version:
            came.lost.store.change(came.front.node_id, label=str(came.lost.store.roster().version))
        came.follow(came.lost)
        return made

    monkeypatch.setattr(Store, "revoke", revoked)
    async with came.front.serve() as server:
        with pytest.raises(NotKept) as caught:
            await revoke(came.workspace(server.port), "laptop-x")
    assert "again" in caught.value.hint
    assert came.front.store.roster().trusts(came.x.node_id)


@pytest.mark.usefixtures("late")
async def test_another_list_of_the_same_version_is_said(came: Came) -> None:
    for label in "ab":
        came.back.store.change(came.x.node_id, label=label)
    async with came.front.serve() as server:
        with pytest.raises(RosterConflict, match="laptop-front will not take it"):
            await revoke(came.workspace(server.port), "laptop-x")
        assert await tell_roster(came.workspace(server.port)) == ()


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.usefixtures("late")
async def test_a_new_authority_outranks_higher_versions_of_the_former_one(came: Came, labels: int) -> None:
    """Versions 4 and 6 meet version 6: lower than it, and the same."""
    for label in range(labels):
        came.back.store.change(came.x.node_id, label=str(label))
    async with came.front.serve() as server:
        version, told = await governing.roll_over(came.workspace(server.port))
    assert (version, told) == (7, ("laptop-front",))
    assert came.front.store.signed_roster() == came.back.store.signed_roster()
    assert came.front.store.signed_roster().handovers


async def test_the_newest_list_is_handed_over(came: Came) -> None:
    async with came.front.serve() as server:
        version, told = await governing.roll_over(came.workspace(server.port))
    assert (version, told) == (7, ("laptop-front",))
    assert len(came.front.store.roster().members) == 6


async def test_a_fork_heals_whoever_begins(came: Came) -> None:
    came.back.store.roll_over()
    async with came.back.serve() as server:
        await came.front.client(server.port).exchange_roster(came.back.node_id)
    assert came.front.store.signed_roster() == came.back.store.signed_roster()


async def test_a_fork_that_nobody_there_can_heal_is_not_called_told(came: Came) -> None:
    came.back.store.roll_over()
    came.x.store.save_roster(came.back.store.signed_roster().encode())
    async with came.front.serve() as server:
        with pytest.raises(PeerError) as caught:
            await came.x.client(server.port).exchange_roster(came.front.node_id)
    assert caught.value.code == "roster-rollback"


async def test_whom_an_invitation_lets_in_is_noted_in_the_newest_list(came: Came) -> None:
    async def approve(_: object) -> bool:
        return True

    async with came.front.serve() as server:
        workspace = came.workspace(server.port)
        async with open_window(workspace, Role.MEMBER, approve), asyncio.timeout(20):
            while came.back.store.roster().version < 6:
                await asyncio.sleep(0.05)
