"""The laboratory: whole laptops in network namespaces, in the networks that shops have.

Each case ends with the business identical on both sides, or with the finding that ``backroom doctor`` promises.
"""

from __future__ import annotations

import shutil

import pytest

from agent.config import change
from agent.home import Home
from tests.lan.lab import BUSINESS, codes, identical, on, push_and_compare
from tests.lan.network import Host, Lan, run, why_not
from tests.support.agents import ANYWHERE, Laptop, Shops, wait_until

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(170),
    pytest.mark.xdist_group("lan"),
]


# How long the doctor waits for others: where nobody will answer it need not be long, else it ends with the answer.
NOBODY, SOMEBODY = 1.5, 15.0


def place(laptop: Laptop, host: str) -> str:
    return f"{host}:{(laptop.home / 'state' / 'port').read_text().strip()}"


def knows(laptop: Laptop, other: Laptop) -> bool:
    """Whether its agent has met the other one."""
    known = laptop.home / "state" / "peers.json"
    return known.exists() and other.node_id in known.read_text()


def test_multicast_is_blocked(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"], ["10.77.0.3/24"]) as lan:
        first = lan.hosts[0]
        office = on(first, shops.laptop("laptop-office-001", "shop"))
        sales = on(lan.hosts[1], shops.laptop("laptop-sales-002"))
        late = on(lan.hosts[2], shops.laptop("laptop-late-003"))
        shops.shop(office, sales, late)
        # A network that swallows it.
        lan.flood_multicast("off")
        with office.running(ANYWHERE), sales.running(ANYWHERE):
            assert set(codes(office, sales.name, wait=NOBODY)) == {"nobody-announced", "not-seen"}
            # And a laptop that cannot do it at all.
            first.run("ip", "link", "set", "eth0", "multicast", "off")
            found = codes(office, sales.name, wait=NOBODY)
            assert set(found) == {"no-multicast", "not-seen"}
            assert "eth0" in found["no-multicast"]["about"]
            # What the doctor says to do about it.
            change(Home(office.home), peers=(place(sales, "10.77.0.2"),))
            assert "not-seen" not in codes(office, sales.name, wait=SOMEBODY)
            push_and_compare(office, sales)
            # One who knows the way is enough: the newcomer knows the office alone and hears of sales there.
            change(Home(late.home), peers=(place(office, "10.77.0.1"),))
            with late.running(ANYWHERE):
                wait_until(lambda: knows(late, sales), 40, "hearing of sales")


def tunnel(host: Host, address: str) -> None:
    """An interface as VPNs make them, which leads nowhere."""
    host.run("ip", "link", "add", "tun0", "type", "veth", "peer", "name", "hole0")
    host.run("ip", "link", "set", "hole0", "up")
    host.run("ip", "address", "add", address, "dev", "tun0")
    host.run("ip", "link", "set", "tun0", "up")


def test_a_second_interface_like_a_vpn(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        first, second = lan.hosts
        # Both have it, in one network: each is announced with an address that seems near and never answers.
        tunnel(first, "10.99.0.1/24")
        tunnel(second, "10.99.0.2/24")
        office = on(first, shops.laptop("laptop-office-001", "shop"))
        sales = on(second, shops.laptop("laptop-sales-002"))
        shops.shop(office, sales)
        with sales.running(ANYWHERE):
            push_and_compare(office, sales)
            assert "vpn-route" not in codes(office, sales.name, wait=SOMEBODY)
            # And now it takes the traffic.
            first.run("ip", "route", "add", "10.77.0.2/32", "dev", "tun0")
            found = codes(office, sales.name, wait=NOBODY)
            assert "vpn-route" in found, found
            assert "tun0" in found["vpn-route"]["message"]
            first.run("ip", "route", "del", "10.77.0.2/32")
            identical(office, sales)


def test_two_subnets_and_a_laptop_that_is_away(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.88.0.2/24"]) as lan:
        first, second = lan.hosts
        office = on(first, shops.laptop("laptop-office-001", "shop"))
        sales = on(second, shops.laptop("laptop-sales-002"))
        shops.shop(office, sales)
        # Two routers: no multicast from one network to the other, and no way between them.
        lan.flood_multicast("off")
        with sales.running(ANYWHERE):
            change(Home(office.home), peers=(place(sales, "10.88.0.2"),))
            assert "other-subnet" in codes(office, sales.name, wait=NOBODY)
            # A way between them, and the address that is listed.
            for host, network in ((first, "10.88.0.0/24"), (second, "10.77.0.0/24")):
                host.run("ip", "route", "add", network, "dev", "eth0")
            push_and_compare(office, sales)
            assert "other-subnet" not in codes(office, sales.name, wait=SOMEBODY)
        assert "agent-away" in codes(office, sales.name, wait=NOBODY)
        # In one network, and the cable is out.
        second.address("add", "10.77.0.2/24")
        change(Home(office.home), peers=("10.77.0.2:47600",))
        (office.home / "state" / "peers.json").unlink()
        second.link("down")
        assert "silent-neighbour" in codes(office, sales.name, wait=NOBODY)


def met(office: Laptop, *laptops: Laptop) -> bool:
    """Whether the office, once each of them was at work, takes them for copies of one."""
    for each in laptops:
        each.cli("devices", "--wait", "5", env=ANYWHERE)
    return "clone-alarm" in codes(office, wait=SOMEBODY)


def test_a_late_joiner_and_a_copied_laptop(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"], ["10.77.0.3/24"]) as lan:
        office = on(lan.hosts[0], shops.laptop("laptop-office-001", "shop"))
        sales = on(lan.hosts[1], shops.laptop("laptop-sales-002"))
        shops.shop(office, sales)
        with office.running(ANYWHERE):
            assert "not-seen" in codes(office, sales.name, wait=NOBODY)
            with sales.running(ANYWHERE):
                # The agent that has long been running finds the newcomer by itself.
                wait_until(lambda: knows(office, sales), 30, "finding the newcomer")
                push_and_compare(office, sales)
                # Its whole disk copied to a third machine, and started there.
                shutil.copytree(sales.home, copied := sales.home.with_name("copied"))
                for name in ("state", "spool"):
                    shutil.rmtree(copied / name)
                copy = on(lan.hosts[2], Laptop("copied", copied, sales.database))
                with copy.running(ANYWHERE):
                    wait_until(lambda: met(office, sales, copy), 60, "the alarm")
                    assert office.cli("push", BUSINESS, sales.name, env=ANYWHERE).error["code"] == "clone-alarm"
                    wait_until(lambda: "clone-alarm" in codes(sales, wait=SOMEBODY), 60, "the alarm on the laptop")


def test_the_laboratory_leaves_nothing_behind() -> None:
    with Lan(["10.77.0.1/24"]) as lan:
        name = lan.hosts[0].name
        run("ip", "netns", "pids", name)
    with pytest.raises(AssertionError):
        run("ip", "netns", "pids", name)
