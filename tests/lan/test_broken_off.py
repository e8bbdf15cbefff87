"""Transfers that break off in the middle, between whole laptops: each ends with the business the same on both."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lan.clock import Clock, clock, why_no_clock
from tests.lan.lab import ORDERS, begin_push, finished, identical, on, slow
from tests.lan.network import Host, Lan, why_not
from tests.support.agents import ANYWHERE, Laptop, Shops

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(170),
    pytest.mark.xdist_group("lan"),
]
HALF_AN_HOUR = 1800.0
UNTIL_NOTICED = 30.0
"""A connection that stands still is found out by then."""
Pair = tuple[Laptop, Laptop]


@pytest.fixture
def pair(shops: Shops) -> Pair:
    """An office with a business of some megabytes, and an empty laptop."""
    office = shops.laptop("laptop-office-001", shops.large_database(ORDERS))
    sales = shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    return office, sales


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Clock]:
    if (reason := why_no_clock()) is not None:
        pytest.skip(reason)
    with clock(tmp_path) as made:
        yield made


def put(lan: Lan, pair: Pair) -> tuple[Host, Host]:
    first, second = lan.hosts
    on(first, pair[0]), on(second, pair[1])
    return first, second


@pytest.mark.parametrize("asleep", ["receiver", "sender"])
def test_half_an_hour_of_sleep_in_the_middle(pair: Pair, shared: Clock, asleep: str) -> None:
    """The lid is closed: the process stands still and the cable is dead, while half an hour passes for the other one
    with all its limits. Then both clocks of the sleeper are half an hour later at once."""
    env = {**ANYWHERE, **shared.env}
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        first, second = put(lan, pair)
        office, sales = pair
        slow(first, "16mbit")
        with sales.running(env) as agent:
            pushing = begin_push(office, sales, env)
            host, sleeper = (second, agent.process) if asleep == "receiver" else (first, pushing)
            sleeper.send_signal(signal.SIGSTOP)
            try:
                host.link("down")
                shared.passes(HALF_AN_HOUR)
                assert pushing.poll() is None, "the other one gave up"
                host.link("up")
            finally:
                sleeper.send_signal(signal.SIGCONT)
            finished(pushing)
            identical(office, sales, env)


@pytest.mark.parametrize("moves", ["receiver", "sender"])
def test_the_cable_is_pulled_and_the_address_another_one_afterwards(pair: Pair, shared: Clock, moves: str) -> None:
    env = {**ANYWHERE, **shared.env}
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        first, second = put(lan, pair)
        office, sales = pair
        slow(first, "16mbit")
        with sales.running(env):
            pushing = begin_push(office, sales, env)
            host, old = (second, "10.77.0.2/24") if moves == "receiver" else (first, "10.77.0.1/24")
            host.link("down")
            host.address("del", old)
            host.address("add", "10.77.0.9/24")
            host.link("up")
            shared.passes(UNTIL_NOTICED)
            finished(pushing)
            identical(office, sales, env)


def test_five_percent_lost_and_a_tenth_of_a_second_late(pair: Pair) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        put(lan, pair)
        office, sales = pair
        lan.lossy(0.05, 0.05)
        with sales.running(ANYWHERE):
            done = finished(begin_push(office, sales))
            assert done["bytes"] > 4_000_000
            identical(office, sales)
