"""What is concluded from what was seen: each cause has its own finding, and what is well has none."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest

from agent.operations import findings as judge
from agent.operations.findings import Absent, Agent
from agent.peers.address import Address
from agent.peers.interfaces import Interface, Leads, leads, nearness, worth_telling
from agent.peers.survey import Knock, Multicast, Reached

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def interface(name: str, *addresses: str) -> Interface:
    parsed = [ipaddress.ip_interface(each) for each in addresses]
    return Interface(name, tuple((each.ip, each.network) for each in parsed), leads(name, [each.ip for each in parsed]))


LO = interface("lo", "127.0.0.1/8", "::1/128")
WIFI = interface("wlan0", "192.168.1.5/24", "fe80::5/64")
DOCKER = interface("docker0", "172.17.0.1/16")
VPN = interface("tun0", "10.8.0.2/24")


def place(
    knock: Knock,
    host: str = "192.168.1.9",
    by: Leads | None = Leads.LAN,
    *,
    near: bool = True,
    neighbour: bool | None = None,
    own: bool = False,
) -> Reached:
    return Reached(Address(host, 47600), knock, "tun0" if by is Leads.TUNNEL else "wlan0", by, near, neighbour, own)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eth0", Leads.LAN),
        ("Wi-Fi", Leads.LAN),
        ("br-lan", Leads.LAN),
        ("Ethernet 2", Leads.LAN),
        ("docker0", Leads.CONTAINERS),
        ("br-0a1b2c3d4e5f", Leads.CONTAINERS),
        ("vEthernet (WSL)", Leads.CONTAINERS),
        ("tun0", Leads.TUNNEL),
        ("wg-home", Leads.LAN),
        ("wg0", Leads.TUNNEL),
        ("utun3", Leads.TUNNEL),
        ("TAP-Windows Adapter V9", Leads.TUNNEL),
        ("ProtonVPN", Leads.TUNNEL),
    ],
)
def test_where_an_interface_leads(name: str, expected: Leads) -> None:
    assert leads(name, [ipaddress.ip_address("10.0.0.1")]) is expected
    assert leads(name, [ipaddress.ip_address("127.0.0.1")]) is Leads.ITSELF


def test_container_bridges_are_told_only_where_there_is_nothing_else() -> None:
    assert worth_telling([LO, WIFI, DOCKER]) == ("192.168.1.5",)
    assert worth_telling([LO, WIFI, VPN]) == ("10.8.0.2", "192.168.1.5")
    assert worth_telling([LO, DOCKER]) == ("172.17.0.1",)
    assert worth_telling([LO]) == ("127.0.0.1",)
    assert worth_telling([LO, WIFI, DOCKER], ["172.17.0.1", "192.168.1.5"]) == ("192.168.1.5",)
    assert worth_telling([LO, WIFI], ["127.0.0.1"]) == ("127.0.0.1",)


def test_the_nearest_address_is_tried_first() -> None:
    hosts = ["192.168.1.5", "fe80::9%2", "172.17.0.9", "10.8.0.9", "192.168.7.7", "office.local", "192.168.1.9"]
    ordered = sorted(hosts, key=lambda host: nearness(host, [LO, WIFI, DOCKER, VPN]))
    assert ordered[0] == "192.168.1.9"
    assert set(ordered[1:3]) == {"192.168.7.7", "office.local"}
    assert ordered[-2:] == ["fe80::9%2", "192.168.1.5"]


@pytest.mark.parametrize(
    ("places", "announced", "code"),
    [
        ([], False, "not-seen"),
        ([place(Knock.SILENT, own=True)], False, "not-seen"),
        ([place(Knock.CLOSED)], False, "agent-away"),
        ([place(Knock.SILENT)], False, "silent-neighbour"),
        ([place(Knock.SILENT, neighbour=False)], False, "silent-neighbour"),
        ([place(Knock.SILENT, neighbour=True)], False, "firewall"),
        ([place(Knock.SILENT)], True, "firewall"),
        ([place(Knock.SILENT, "10.9.9.9", near=False)], False, "other-subnet"),
        ([place(Knock.NO_ROUTE, "10.9.9.9", None, near=False)], False, "other-subnet"),
        ([place(Knock.SILENT, "10.8.0.9", Leads.TUNNEL)], False, "vpn-route"),
        ([place(Knock.CLOSED, "10.8.0.9", Leads.TUNNEL)], True, "vpn-route"),
        ([place(Knock.OPEN)], True, "peer-unreachable"),
    ],
)
def test_why_a_laptop_cannot_be_reached(places: list[Reached], announced: bool, code: str) -> None:
    found = judge.judge_absent(
        Absent("laptop-b", "peer-unreachable", "It does not answer.", "Hint.", places, announced)
    )
    assert found.code == code
    assert found.about == "laptop-b"
    assert found.message
    assert found.hint


@pytest.mark.parametrize("code", ["expired-certificate", "revoked-device", "version-mismatch", "wrong-device"])
def test_who_answers_but_is_not_accepted_is_no_matter_of_the_network(code: str) -> None:
    found = judge.judge_absent(Absent("laptop-b", code, "It was revoked.", "Hint.", [place(Knock.SILENT)], False))
    assert (found.code, found.message) == (code, "It was revoked.")


def test_the_agent() -> None:
    assert not list(judge.judge_agent(Agent(running=True, port=1, free=True, answered=True)))
    assert [each.code for each in judge.judge_agent(Agent(True, 1, True, False))] == ["agent-deaf"]
    codes = [each.code for each in judge.judge_agent(Agent(False, 47600, False, True))]
    assert codes == ["agent-not-running", "port-taken"]
    assert [each.code for each in judge.judge_agent(Agent(False, 0, False, True))] == ["agent-not-running"]


def test_the_network() -> None:
    heard = [Multicast("wlan0", True)]
    assert not list(judge.judge_network([LO, WIFI], heard, 1))
    assert [each.code for each in judge.judge_network([LO, DOCKER], [], 0)] == ["no-network"]
    deaf = [Multicast("wlan0", False, "Network is unreachable"), Multicast("tun0", True)]
    (found,) = judge.judge_network([LO, WIFI, VPN], deaf, 0)
    assert found.code == "no-multicast"
    assert "Network is unreachable" in found.message
    assert [each.code for each in judge.judge_network([LO, WIFI], heard, 0)] == ["nobody-announced"]


def test_windows() -> None:
    assert not list(judge.judge_windows("", ""))
    assert not list(judge.judge_windows("Private\n", ""))
    assert not list(judge.judge_windows("Public\n", "Rule Name: Backroom\nEnabled: Yes\n"))
    assert [each.code for each in judge.judge_windows("Private\nPublic\n", "No rules match")] == ["public-network"]


def test_clock_and_certificate() -> None:
    assert not list(judge.judge_clock("b", NOW + timedelta(seconds=90), NOW))
    (ahead,) = judge.judge_clock("b", NOW + timedelta(hours=2), NOW)
    assert "120 minutes ahead of" in ahead.message
    assert "14:00 there, 2026-01-01 12:00 here" in ahead.message
    (behind,) = judge.judge_clock("b", NOW - timedelta(minutes=3), NOW)
    assert "3 minutes behind" in behind.message
    day = timedelta(days=1)
    cases = {
        (-day, 100 * day, True): [],
        (day, 100 * day, True): ["certificate-not-yet-valid"],
        (-9 * day, -day, True): ["certificate-expired"],
        (-9 * day, 3 * day, True): ["certificate-ends"],
        (-9 * day, 90 * day, False): ["revoked"],
    }
    for (begins, ends, active), codes in cases.items():
        found = judge.judge_certificate(NOW + begins, NOW + ends, NOW, active=active)
        assert [each.code for each in found] == codes


def test_disk_rights_and_tables() -> None:
    assert [each.about for each in judge.judge_disk({"/a": 10, "/b": 10**12})] == ["/a"]
    (found,) = judge.judge_rights({"orders": ("INSERT", "DELETE")})
    assert "INSERT, DELETE in orders" in found.message
    assert 'GRANT INSERT, DELETE ON "orders"' in found.hint
    assert not list(judge.judge_unclassified([]))
    (found,) = judge.judge_unclassified([f"t{n}" for n in range(9)])
    assert "t5 and 3 more" in found.message


def test_schema() -> None:
    ours = {"a": {"id": "text", "n": "integer"}, "mine": {"id": "text"}}
    theirs = {"a": {"id": "text", "n": "bigint", "more": "text"}, "yours": {"id": "text"}}
    assert not list(judge.judge_schema("b", ours, ours))
    there, here, types = judge.judge_schema("b", ours, theirs)
    assert (there.code, there.message) == ("schema-there", "b lacks mine.")
    assert (here.code, here.message) == ("schema-here", "This laptop lacks yours, a.more.")
    assert "a.n (integer here, bigint there)" in types.message
