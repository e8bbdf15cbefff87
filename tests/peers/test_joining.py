"""Joining over real sockets: by address and by mDNS, wrong codes, a declined device, floods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.peers.address import Address
from agent.peers.discovery import Discovery
from agent.peers.errors import WindowError
from agent.peers.joining import Window, join
from certs.authority import Membership
from certs.codes import Code, new_code
from certs.errors import JoinDeclined, NoWindow, WindowClosed, WrongCode
from certs.joining import Inviter, InviteSide, JoinRequest
from certs.roster import Role
from tests.peers.laptops import Laptop, make_laptop, make_shop

LOOPBACK = ["127.0.0.1"]


@pytest.fixture
def admin(tmp_path: Path) -> Laptop:
    return make_shop(tmp_path, ["laptop-admin"])[0]


@pytest.fixture
def newcomer(tmp_path: Path) -> Laptop:
    return make_laptop(tmp_path, "laptop-new")


def invitation(admin: Laptop, code: Code) -> InviteSide:
    state = admin.store.require_shop()

    def issue(name: str, public_key: bytes) -> Membership:
        return admin.store.issue(name, public_key, Role.MEMBER)

    return InviteSide(code, admin.store.identity(), state.shop_name, state.authority, issue)


async def yes(_who: JoinRequest | Inviter) -> bool:
    return True


async def no(_who: JoinRequest | Inviter) -> bool:
    return False


async def test_joining_by_address(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        waiting = asyncio.create_task(window.joined())
        membership, inviter = await join(
            code, newcomer.store.identity(), yes, address=Address("127.0.0.1", window.port)
        )
        joined = await waiting
    newcomer.store.join_result(membership)
    assert (inviter.name, inviter.shop_name) == ("laptop-admin", "Corner Shop")
    assert (joined.name, joined.node_id) == ("laptop-new", newcomer.node_id)
    # Both may talk to each other now.
    async with admin.serve() as server:
        assert (await newcomer.client(server.port).hello(admin.node_id)).name == "laptop-admin"


async def test_joining_by_mdns(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    async with Discovery(interfaces=LOOPBACK) as theirs, Discovery(interfaces=LOOPBACK) as mine:
        async with Window(invitation(admin, code), yes, discovery=theirs, host="127.0.0.1"):
            membership, _ = await join(code, newcomer.store.identity(), yes, discovery=mine)
    assert newcomer.store.join_result(membership).shop_name == "Corner Shop"


async def test_no_such_window(newcomer: Laptop) -> None:
    async with Discovery(interfaces=LOOPBACK) as mine:
        with pytest.raises(NoWindow, match="was found on this network"):
            await join(new_code(), newcomer.store.identity(), yes, discovery=mine, within=0.3)
    with pytest.raises(WindowError, match="does not answer"):
        await join(new_code(), newcomer.store.identity(), yes, address=Address("127.0.0.1", 1))


async def test_three_wrong_codes_close_the_window(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    wrong = Code(code.window, ("abacus", "abacus", "abacus"))
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        waiting = asyncio.create_task(window.joined())
        place = Address("127.0.0.1", window.port)
        for _ in range(3):
            with pytest.raises(WrongCode):
                await join(wrong, newcomer.store.identity(), yes, address=place)
        with pytest.raises(WindowClosed):
            await join(code, newcomer.store.identity(), yes, address=place)
        with pytest.raises(WindowError, match="The invitation is over"):
            await asyncio.wait_for(waiting, 15)


async def test_the_admin_says_no(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    async with Window(invitation(admin, code), no, host="127.0.0.1") as window:
        with pytest.raises(JoinDeclined):
            await join(code, newcomer.store.identity(), yes, address=Address("127.0.0.1", window.port))
    assert admin.store.roster().member(newcomer.node_id) is None


async def test_the_joiner_says_no(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        with pytest.raises(WindowError, match="stopped on this laptop"):
            await join(code, newcomer.store.identity(), no, address=Address("127.0.0.1", window.port))
    assert admin.store.roster().member(newcomer.node_id) is None


async def test_garbage_and_floods_are_turned_away(admin: Laptop, newcomer: Laptop) -> None:
    import aiohttp

    code = new_code()
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        url = f"http://127.0.0.1:{window.port}/v1/join"
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=b"x" * 5000) as response:
                assert response.status == 413
            async with session.post(url, data=b"garbage") as response:
                assert response.status == 200
            statuses = []
            for _ in range(70):
                async with session.post(url, data=b"garbage") as response:
                    statuses.append(response.status)
            assert statuses[-1] == 429
