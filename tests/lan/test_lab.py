"""The laboratory: whole laptops in network namespaces, in the networks that shops have.

Each case ends with the business identical on both sides, or with the finding that ``backroom doctor`` promises.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agent.config import change
from agent.home import Home
from tests.lan.network import Host, Lan, run, why_not
from tests.lan.test_lan import arrived, process, result, serving
from tests.peers.laptops import Laptop as Plain
from tests.peers.laptops import make_shop
from tests.support.agents import ANYWHERE, Laptop, Shops, wait_until

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(170),
    pytest.mark.xdist_group("lan"),
]
BUSINESS = "Restaurant ABC"
ROOT = Path(__file__).parents[2]


def on(host: Host, laptop: Laptop) -> Laptop:
    laptop.within = ("ip", "netns", "exec", host.name)
    return laptop


def codes(laptop: Laptop, *arguments: str) -> dict[str, dict[str, Any]]:
    """The findings of the doctor, by code."""
    found = laptop.cli("doctor", "--wait", "4", *arguments, env=ANYWHERE).value["findings"]
    return {each["code"]: each for each in found}


def push_and_compare(office: Laptop, sales: Laptop) -> None:
    assert office.do("push", BUSINESS, sales.name, env=ANYWHERE)["outcome"] == "applied"
    assert office.do("compare", "--business", BUSINESS, "--with", sales.name, env=ANYWHERE)["identical"] is True


def test_what_the_doctor_says_of_networks(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"], ["10.77.0.3/24"]) as lan:
        first, second, third = lan.hosts
        office = on(first, shops.laptop("laptop-office-001", "shop"))
        sales = on(second, shops.laptop("laptop-sales-002"))
        late = on(third, shops.laptop("laptop-late-003"))
        shops.shop(office, sales, late)
        # A network that swallows multicast.
        lan.flood_multicast("off")
        with office.running(ANYWHERE), sales.running(ANYWHERE) as there:
            found = codes(office, sales.name)
            assert set(found) == {"nobody-announced", "not-seen"}
            # And a laptop that cannot do multicast at all.
            first.run("ip", "link", "set", "eth0", "multicast", "off")
            found = codes(office, sales.name)
            assert set(found) == {"no-multicast", "not-seen"}
            assert "eth0" in found["no-multicast"]["about"]
            change(Home(office.home), peers=(f"10.77.0.2:{there.port}",))
            assert "not-seen" not in codes(office, sales.name)
            push_and_compare(office, sales)
            # One who knows the way is enough: the newcomer knows the office alone and hears of sales there.
            change(Home(late.home), peers=(f"10.77.0.1:{(office.home / 'state' / 'port').read_text().strip()}",))
            with late.running(ANYWHERE):
                known = late.home / "state" / "peers.json"
                wait_until(lambda: known.exists() and sales.node_id in known.read_text(), 40, "hearing of sales")

            # A VPN that takes the traffic.
            first.run("ip", "link", "add", "tun0", "type", "veth", "peer", "name", "hole0")
            first.run("ip", "link", "set", "hole0", "up")
            first.run("ip", "address", "add", "10.99.0.1/24", "dev", "tun0")
            first.run("ip", "link", "set", "tun0", "up")
            first.run("ip", "route", "add", "10.77.0.2/32", "dev", "tun0")
            found = codes(office, sales.name)
            assert "vpn-route" in found, found
            assert "tun0" in found["vpn-route"]["message"]
            first.run("ip", "route", "del", "10.77.0.2/32")
            assert "vpn-route" not in codes(office, sales.name)
            push_and_compare(office, sales)

            # Two subnets without a way between them.
            second.address("del", "10.77.0.2/24")
            second.address("add", "10.88.0.2/24")
            change(Home(office.home), peers=(f"10.88.0.2:{there.port}",))
            (office.home / "state" / "peers.json").unlink()
            assert "other-subnet" in codes(office, sales.name)
            # And with one: a router between them, and the address that was listed.
            for host, network in ((first, "10.88.0.0/24"), (second, "10.77.0.0/24")):
                host.run("ip", "route", "add", network, "dev", "eth0")
            assert "other-subnet" not in codes(office, sales.name)
            push_and_compare(office, sales)
        assert "agent-away" in codes(office, sales.name)
        second.link("down")
        assert codes(office, sales.name).keys() & {"silent-neighbour", "other-subnet"}


def test_late_joiner_and_a_copied_laptop(shops: Shops) -> None:
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"], ["10.77.0.3/24"]) as lan:
        office = on(lan.hosts[0], shops.laptop("laptop-office-001", "shop"))
        sales = on(lan.hosts[1], shops.laptop("laptop-sales-002"))
        shops.shop(office, sales)
        with office.running(ANYWHERE):
            time.sleep(2)
            with sales.running(ANYWHERE):
                begun = time.monotonic()
                push_and_compare(office, sales)
                assert time.monotonic() - begun < 30
                # Its whole disk copied to a third machine, and started there.
                shutil.copytree(sales.home, copied := sales.home.with_name("copied"))
                for name in ("state", "spool"):
                    shutil.rmtree(copied / name)
                copy = on(lan.hosts[2], Laptop("copied", copied, sales.database))
                with copy.running(ANYWHERE):
                    wait_until(lambda: "clone-alarm" in codes(office), 60, "the alarm")
                    assert office.cli("push", BUSINESS, sales.name, env=ANYWHERE).code == 1


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Plain]:
    monkeypatch.chdir(ROOT)
    return make_shop(tmp_path, ["laptop-front", "laptop-back"])


def test_five_percent_lost_and_a_tenth_of_a_second_late(plain: list[Plain], tmp_path: Path) -> None:
    front, back = plain
    path = front.bundle(500_000)
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan, serving(lan.hosts[1], tmp_path, back):
        lan.lossy(0.05, 0.05)
        with process(lan.hosts[0], "push", str(tmp_path), front.name, back.node_id, str(path)) as pushing:
            told = result(pushing)
    assert told["outcome"] == "stored"
    assert told["sent"] < 2 * path.stat().st_size
    assert arrived(back, path)


@pytest.mark.parametrize("asleep", ["receiver", "sender"])
def test_a_laptop_that_sleeps_in_the_middle(plain: list[Plain], tmp_path: Path, asleep: str) -> None:
    """Frozen for longer than every limit on silence (scaled to seconds), as a closed lid does for half an hour."""
    front, back = plain
    path = front.bundle(30_000_000)
    with Lan(["10.77.0.1/24"], ["10.77.0.2/24"]) as lan:
        lan.hosts[0].run(
            "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "60mbit", "burst", "1mb", "latency", "50ms"
        )
        with process(lan.hosts[1], "serve", str(tmp_path), back.name) as server:
            assert server.stdout is not None
            while not server.stdout.readline().startswith("ready"):
                pass
            with process(lan.hosts[0], "push", str(tmp_path), front.name, back.node_id, str(path)) as pushing:
                assert pushing.stdout is not None
                for line in pushing.stdout:
                    phase, done, *_ = line.split()
                    if phase == "sending" and int(done) > 15_000_000:
                        break
                sleeper = server if asleep == "receiver" else pushing
                sleeper.send_signal(signal.SIGSTOP)
                time.sleep(9)
                sleeper.send_signal(signal.SIGCONT)
                told = {}
                for line in pushing.stdout:
                    if line.startswith("{"):
                        told = json.loads(line)
                        break
    assert told["outcome"] == "stored"
    # It was taken up again, and not from the beginning: only what lay in buffers when it fell asleep was sent twice.
    assert told["sent"] < path.stat().st_size + 14_000_000
    assert arrived(back, path)


def test_the_laboratory_leaves_nothing_behind() -> None:
    with Lan(["10.77.0.1/24"]) as lan:
        name = lan.hosts[0].name
        run("ip", "netns", "pids", name)
    with pytest.raises(AssertionError):
        run("ip", "netns", "pids", name)
