"""The commands in two network namespaces joined by a bridge: found, joined and pushed without any address given."""

from __future__ import annotations

import time

import pytest

from tests.lan.network import Host, Lan, why_not
from tests.support.agents import ANYWHERE, Laptop, Shops

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("lan"),
]


def on(host: Host, laptop: Laptop) -> Laptop:
    laptop.within = ("ip", "netns", "exec", host.name)
    return laptop


def test_join_and_push_over_the_network(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        office = on(lan.hosts[0], shops.laptop("laptop-office-001", "shop"))
        sales = on(lan.hosts[1], shops.laptop("laptop-sales-002"))
        office.do("shop", "create", "Corner Shops", env=ANYWHERE)
        with office.running(ANYWHERE) as first:
            code = office.do("invite", env=ANYWHERE)["code"]
            joined = sales.do("join", code, env=ANYWHERE)
            assert joined["shop"] == "Corner Shops"
            assert joined["invited_by"]["name"] == office.name
            first.wait_for("device joined", name=sales.name)
            with sales.running(ANYWHERE):
                begun = time.monotonic()
                devices = office.do("devices", env=ANYWHERE)
                assert {each["name"]: each["online"] for each in devices} == {office.name: True, sales.name: True}
                assert time.monotonic() - begun < 10
                answer = office.do("push", "Restaurant ABC", sales.name, env=ANYWHERE)
                assert answer["outcome"] == "applied"
                compared = sales.do("compare", "--business", "Restaurant ABC", "--with", office.name, env=ANYWHERE)
                assert compared["identical"] is True
