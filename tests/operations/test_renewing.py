"""Renewing where a clock was ahead when the certificate was made, or is behind now; and what was not taken."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.config import change
from agent.home import Home
from agent.operations import renewing
from agent.operations.network import Network
from agent.operations.renewing import NotTaken, due, renew_certificate
from agent.operations.workspace import Workspace
from agent.peers.directory import Directory
from certs import certificates
from certs.errors import WrongClock
from certs.store import Store, utc_now
from protocol.trusting import RenewalAnswer
from tests.peers.laptops import Laptop, admit, make_laptop

YEAR = timedelta(days=365)


@pytest.fixture
def shop(tmp_path: Path) -> list[Laptop]:
    """A shop whose clock was a year ahead when it was made and the second laptop joined."""
    admin, front = (make_laptop(tmp_path, name) for name in ("laptop-admin", "laptop-front"))
    admin.store.clock = lambda: utc_now() + YEAR
    admin.store.create_shop("Corner Shop")
    admit(admin, front)
    admin.store.clock = utc_now
    return [admin, front]


def workspace(laptop: Laptop) -> Workspace:
    change(laptop.home, name=laptop.name, listen=("198.51.100.1",))  # no interface has it: no mDNS
    made = Workspace(Home(laptop.home.path))
    made.store.clock = laptop.store.clock
    return made


def answers(monkeypatch: pytest.MonkeyPatch, admin: Store, key: bytes) -> None:
    async def renewal(_: Directory, __: str) -> RenewalAnswer:
        return RenewalAnswer("renewed", admin.renew(key))

    monkeypatch.setattr(renewing, "renewal", renewal)


def in_time(laptop: Laptop, now: datetime) -> None:
    certificates.check_dates(laptop.store.identity().certificate, now)


async def test_a_certificate_from_a_clock_that_was_ahead_is_renewed(
    shop: list[Laptop], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, front = shop
    for laptop in shop:
        assert due(laptop.store.require_shop(), utc_now())
        answers(monkeypatch, admin.store, front.store.identity().public_key)
        assert (await renew_certificate(workspace(laptop))).renewed
        in_time(laptop, utc_now())
        assert not due(laptop.store.require_shop(), utc_now())


async def test_what_was_not_taken_is_not_called_renewed(shop: list[Laptop], monkeypatch: pytest.MonkeyPatch) -> None:
    admin, front = shop
    front.store.clock = lambda: utc_now() + YEAR  # as long as both clocks are, its certificate is the better one
    answers(monkeypatch, admin.store, front.store.identity().public_key)
    before = front.store.identity().certificate
    for laptop in shop:
        laptop.store.clock = front.store.clock
    admin.store.clock = utc_now
    with pytest.raises(NotTaken):
        await renew_certificate(workspace(front), now=True)
    assert front.store.identity().certificate == before


async def test_the_holder_of_the_authority_does_not_trust_a_clock_that_others_prove_behind(tmp_path: Path) -> None:
    admin, front = (make_laptop(tmp_path, name) for name in ("laptop-admin", "laptop-front"))
    admin.store.create_shop("Corner Shop")
    admit(admin, front)
    before = admin.store.identity().certificate
    admin.store.clock = lambda: utc_now() - 3 * YEAR
    assert due(admin.store.require_shop(), admin.store.clock())
    async with front.serve() as server:
        client = admin.client(server.port)
        net = Network(client, client.directory, None)
        with pytest.raises(WrongClock, match="the clock of this laptop is behind"):
            await renew_certificate(workspace(admin), net=net)
    assert admin.store.identity().certificate == before
