"""Wrong clocks are told from ended certificates, in both directions and on both sides, with both times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.peers.errors import PeerError
from certs.certificates import DEVICE_LIFETIME
from certs.clock import behind
from tests.peers.laptops import Laptop

LONG = timedelta(days=5 * 365)


def off(laptop: Laptop, by: timedelta) -> None:
    laptop.store.clock = lambda: datetime.now(UTC) + by


async def refusal(front: Laptop, admin: Laptop) -> PeerError:
    async with admin.serve() as server:
        with pytest.raises(PeerError) as caught:
            await front.client(server.port).hello(admin.node_id)
    return caught.value


@pytest.mark.parametrize(
    ("by", "whose", "words"),
    [
        (LONG, "front", "one of them is wrong, probably the clock of this laptop is ahead"),
        (LONG, "admin", "one of them is wrong, probably the clock of laptop-admin is ahead"),
        (-LONG, "front", "the clock of this laptop is behind"),
        (-LONG, "admin", "the clock of laptop-admin is behind"),
    ],
)
async def test_a_wrong_clock_is_named_as_such(shop: list[Laptop], by: timedelta, whose: str, words: str) -> None:
    admin, front = shop[0], shop[1]
    off(front if whose == "front" else admin, by)
    error = await refusal(front, admin)
    assert error.code == "wrong-clock"
    assert words in str(error)
    for clock in (front.store.clock(), admin.store.clock()):
        assert f"{clock:%Y-%m-%d}" in str(error)
    assert "time" in error.hint


async def test_with_right_clocks_an_ended_certificate_is_called_that(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    old = datetime.now(UTC) - DEVICE_LIFETIME - timedelta(days=1)
    certificate = admin.store.require_authority().issue(front.store.identity().public_key, old)
    front.store._write_certificate(certificate, front.store.signed_roster())
    for one, other in ((front, admin), (admin, front)):
        error = await refusal(one, other)
        assert error.code == "expired-certificate"
        assert str(error).count("UTC") == 2


async def test_a_clock_a_few_days_behind_is_no_trouble(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    off(front, -timedelta(days=6))
    async with admin.serve() as server:
        assert (await front.client(server.port).hello(admin.node_id)).name == "laptop-admin"
    wrong = behind(front.store.clock(), front.store.require_shop())
    assert wrong is not None
    assert str(wrong).count("UTC") == 2
    assert behind(datetime.now(UTC), front.store.require_shop()) is None
