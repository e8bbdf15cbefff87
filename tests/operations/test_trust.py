"""Trust between laptops with real agents: limits, approvals, a second admin, renewals, clones, kits, replacement."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config import change
from agent.home import Home
from agent.peers.address import Address
from agent.peers.errors import PeerError
from agent.peers.link import Link
from agent.sealing.archive_key import ArchiveKey
from certs import certificates
from certs.roster import Role
from certs.store import utc_now
from tests.support.agents import Agent, Laptop, Shops, ended, wait_until

BUSINESS, OTHER = "Restaurant ABC", "Green Valley Grocery"
SECRET = {"BACKROOM_PASSPHRASE": "correct horse battery staple"}
Pair = tuple[Laptop, Laptop, Agent, Agent]


def env(extra: Mapping[str, str]) -> dict[str, str]:
    return {"BACKROOM_LISTEN": "198.51.100.1", **extra}


@pytest.fixture
def pair(shops: Shops) -> Iterator[Pair]:
    """An office with the whole shop and its authority, and a laptop beside it; both agents run."""
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    with office.running() as first, sales.running() as second:
        for laptop in (office, sales):
            laptop.knows(first.port, second.port)
        yield office, sales, first, second


def names(laptop: Laptop) -> list[str]:
    return sorted(str(each["name"]) for each in laptop.do("businesses"))


def states(records: list[dict[str, Any]]) -> list[str]:
    return [str(each["state"]) for each in records]


def test_limits_hold_on_both_sides(pair: Pair) -> None:
    office, sales, _, _ = pair
    done = office.do("device", "set", sales.name, "--may-take", BUSINESS, "--may-give", "none", "--label", "Front")
    assert done["told"] == [sales.name]
    (listed,) = [each for each in office.do("devices") if each["name"] == sales.name]
    assert (listed["label"], listed["may_give"], listed["may_offer"]) == ("Front", [], None)
    assert len(listed["may_take"]) == 1
    assert office.do("push", BUSINESS, sales.name)["outcome"] == "applied"
    for answer in (
        office.cli("push", OTHER, sales.name),
        sales.cli("pull", office.name, "--business", OTHER),
        office.cli("pull", sales.name, "--business", BUSINESS),
        office.cli("pull", sales.name, "--full"),
    ):
        assert answer.error["code"] == "not-allowed", answer
    assert sales.cli("device", "set", sales.name, "--may-take", "all").error["code"] == "not-admin"
    office.do("device", "set", sales.name, "--may-take", "all", "--may-give", "all")
    assert office.do("push", OTHER, sales.name)["outcome"] == "applied"


def test_a_revocation_by_another_process_cuts_open_connections_within_a_second(pair: Pair) -> None:
    office, sales, first, _ = pair

    async def watch() -> float:
        async with Link(sales.store, Address("127.0.0.1", first.port), office.node_id) as link:
            await link.hello()
            assert link._session is not None
            connector = link._session.connector
            assert connector is not None
            (connections,) = connector._conns.values()
            transport = connections[0][0].transport
            assert transport is not None
            await asyncio.to_thread(office.store.revoke, sales.node_id)
            begun = time.monotonic()
            while not transport.is_closing():
                assert time.monotonic() < begun + 5
                await asyncio.sleep(0.01)
            took = time.monotonic() - begun
            with pytest.raises(PeerError):
                await link.hello()
            return took

    assert asyncio.run(watch()) < 1.0


# Approvals.


def older_row(laptop: Laptop) -> None:
    """Make a row here newer than the one that is pushed again."""
    laptop.execute("UPDATE business_customers SET name = 'renamed here', \"updatedAt\" = now() + interval '1 minute'")


def renamed(laptop: Laptop) -> int:
    return int(laptop.query("SELECT count(*) FROM business_customers WHERE name = 'renamed here'")[0][0])


def asked(laptop: Laptop) -> dict[str, Any]:
    (request,) = wait_until(lambda: laptop.do("requests"), what="a request")
    return dict(request)


def test_a_push_that_replaces_newer_rows_waits_for_a_yes(pair: Pair) -> None:
    office, sales, _, _ = pair
    office.do("push", BUSINESS, sales.name)
    older_row(sales)
    changed = renamed(sales)
    assert changed
    pushing = office.start("push", BUSINESS, sales.name, "--conflicts", "bundle")
    request = asked(sales)
    assert (request["what"], request["device"], request["business"]) == ("push", office.name, BUSINESS)
    assert request["plan"]["updated"] >= changed
    assert renamed(sales) == changed
    sales.do("approve", request["id"])
    answer = ended(pushing)
    assert answer.code == 0, answer
    assert answer.value["outcome"] == "applied"
    assert answer.value["updated"] == request["plan"]["updated"]
    assert renamed(sales) == 0
    assert sales.do("requests") == []
    assert sales.cli("approve", request["id"]).error["code"] == "request-over"
    (over,) = sales.do("requests", "--all")
    assert (over["state"], over["outcome"]) == ("done", "applied")
    for laptop in (office, sales):
        assert laptop.history()["transfers"][0]["state"] == "done"
    assert [each["state"] for each in sales.history()["restores"][:2]] == ["applied", "planned"]


def test_a_no_changes_nothing_and_both_sides_remember_it(pair: Pair) -> None:
    office, sales, _, _ = pair
    office.do("push", BUSINESS, sales.name)
    older_row(sales)
    before = sales.digest()
    pushing = office.start("push", BUSINESS, sales.name, "--conflicts", "bundle")
    sales.do("decline", asked(sales)["id"])
    error = ended(pushing).error
    assert error["code"] == "push-refused"
    assert "declined" in error["message"]
    assert sales.digest() == before
    for laptop in (office, sales):
        assert laptop.history()["transfers"][0]["state"] == "refused"


def test_the_yes_may_come_when_the_sender_is_gone_and_the_agent_was_restarted(pair: Pair) -> None:
    office, sales, _, second = pair
    office.do("push", BUSINESS, sales.name)
    older_row(sales)
    error = office.cli("push", BUSINESS, sales.name, "--conflicts", "bundle", "--wait", "0").error
    assert error["code"] == "waiting-for-approval"
    request = asked(sales)
    second.stop()
    with sales.running() as again:
        office.knows(again.port)
        sales.do("approve", request["id"])
        again.wait_for("push applied")
        answer = office.do("push", BUSINESS, sales.name, "--conflicts", "bundle")
        assert answer["resumed"]
        assert (answer["outcome"], answer["bytes_sent"]) == ("applied", 0)
    assert renamed(sales) == 0
    assert office.history()["transfers"][0]["state"] == "done"


def test_a_standing_permission_is_for_one_laptop_and_business(pair: Pair) -> None:
    office, sales, _, _ = pair
    office.do("push", BUSINESS, sales.name)
    pushing = office.start("push", BUSINESS, sales.name, "--conflicts", "bundle")
    sales.do("approve", asked(sales)["id"], "--always")
    assert ended(pushing).value["outcome"] == "applied"
    older_row(sales)
    assert office.do("push", BUSINESS, sales.name, "--conflicts", "bundle")["outcome"] == "applied"
    assert renamed(sales) == 0
    (permission,) = sales.do("permissions")
    assert (permission["device"], permission["business"]) == (office.name, BUSINESS)
    waits = office.cli("push", OTHER, sales.name, "--conflicts", "bundle", "--wait", "0").error
    assert waits["code"] == "waiting-for-approval"
    assert sales.do("permissions", "--forget", office.name)["taken_back"] == 1
    waits = office.cli("push", BUSINESS, sales.name, "--conflicts", "bundle", "--wait", "0").error
    assert waits["code"] == "waiting-for-approval"


def test_rows_that_changed_since_the_yes_are_not_overwritten(pair: Pair) -> None:
    office, sales, _, _ = pair
    office.do("push", BUSINESS, sales.name)
    older_row(sales)
    pushing = office.start("push", BUSINESS, sales.name, "--conflicts", "bundle")
    request = asked(sales)
    sales.execute("UPDATE business_customers SET name = 'renamed again'")
    sales.do("approve", request["id"])
    assert ended(pushing).error["code"] == "push-refused"
    assert renamed(sales) == 0
    assert sales.query("SELECT count(*) FROM business_customers WHERE name = 'renamed again'")[0][0]


# A second admin.


def test_losing_the_first_laptop_does_not_end_the_shop(pair: Pair, tmp_path: Path) -> None:
    office, sales, first, _ = pair
    assert office.cli("authority", "share", sales.name, env=env(SECRET)).error["code"] == "not-admin"
    office.do("device", "set", sales.name, "--role", "admin")
    assert office.cli("authority", "share", sales.name).error["code"] == "passphrase-needed"
    office.do("authority", "share", sales.name, env=env(SECRET))
    wrong = env({"BACKROOM_PASSPHRASE": "not this passphrase"})
    assert sales.cli("authority", "accept", env=wrong).error["code"] == "wrong-passphrase"
    assert sales.do("authority", "accept", env=env(SECRET))["holds_authority"]
    assert sales.cli("authority", "accept", env=env(SECRET)).error["code"] == "no-authority-shared"
    first.stop()
    assert sales.do("revoke", office.name)["status"] == "revoked"
    shop_id = sales.store.require_shop().shop_id
    sales.do("authority", "roll")
    assert sales.store.require_shop().shop_id == shop_id
    assert sales.do("authority", "roll")["roster_version"] > 4


def test_the_authority_goes_by_file_to_one_laptop_only(shops: Shops, tmp_path: Path) -> None:
    office, sales, store = (shops.laptop(f"laptop-{name}") for name in ("office", "sales", "store"))
    shops.shop(office, sales, store, roles={sales.name: Role.ADMIN, store.name: Role.ADMIN})
    file = tmp_path / "authority.age"
    office.do("authority", "share", sales.name, "--file", str(file), env=env(SECRET))
    assert b"PRIVATE" not in file.read_bytes()
    assert store.cli("authority", "accept", str(file), env=env(SECRET)).error["code"] == "wrong-kit"
    assert sales.do("authority", "accept", str(file), env=env(SECRET))["holds_authority"]
    assert office.store.authority_key() == sales.store.authority_key()


def test_all_agents_follow_a_new_authority_by_themselves(pair: Pair) -> None:
    office, sales, _, second = pair
    before = sales.store.require_shop()
    office.do("authority", "roll")
    second.wait_for("certificate renewed", by=office.name)
    after = sales.store.require_shop()
    assert after.authority == office.store.require_shop().authority != before.authority
    certificates.check_device(after.certificate, after.authority)
    assert office.do("push", BUSINESS, sales.name)["outcome"] == "applied"


# Certificates.


def age(laptop: Laptop, admin: Laptop, days: int) -> None:
    """Give the laptop a certificate that was made so many days ago."""
    authority = admin.store.require_authority()
    certificate = authority.issue(laptop.store.identity().public_key, utc_now() - timedelta(days=days))
    laptop.store._write_certificate(certificate, laptop.store.signed_roster())


def ends(laptop: Laptop) -> timedelta:
    return certificates.expires(laptop.store.identity().certificate) - utc_now()


def test_a_certificate_that_ends_soon_is_renewed_by_the_agent(shops: Shops) -> None:
    office, sales = shops.laptop("laptop-office"), shops.laptop("laptop-sales")
    shops.shop(office, sales)
    age(sales, office, 2 * 365 - 100)
    age(office, office, 2 * 365 - 100)
    key = sales.node_id
    with office.running() as first:
        wait_until(lambda: ends(office) > timedelta(days=700), what="the admin's own renewal")
        sales.knows(first.port)
        with sales.running():
            wait_until(lambda: ends(sales) > timedelta(days=700), what="the renewal")
    assert sales.node_id == key


def test_an_ended_certificate_is_renewed_with_an_admins_yes(shops: Shops) -> None:
    office, sales = shops.laptop("laptop-office", "shop"), shops.laptop("laptop-sales")
    shops.shop(office, sales)
    age(sales, office, 2 * 365 + 30)
    with office.running() as first, sales.running() as second:
        for laptop in (office, sales):
            laptop.knows(first.port, second.port)
        error = office.cli("push", BUSINESS, sales.name).error
        assert error["code"] == "expired-certificate"
        assert error["message"].count("UTC") == 2
        request = asked(office)
        assert (request["what"], request["device"]) == ("renewal", sales.name)
        assert not sales.do("renew")["renewed"]
        assert ends(sales) < timedelta(0)
        office.do("approve", request["id"])
        assert sales.do("renew")["renewed"]
        second.wait_for("certificate in use")
        assert office.do("push", BUSINESS, sales.name)["outcome"] == "applied"
        age(sales, office, 2 * 365 + 30)
        assert not sales.do("renew")["renewed"]
        office.do("decline", asked(office)["id"])
        assert sales.cli("renew").error["code"] == "declined"


# Clones.


def test_a_copied_laptop_raises_an_alarm_everywhere(pair: Pair, tmp_path: Path) -> None:
    office, sales, _, second = pair
    second.stop()
    copy = Laptop("copy", tmp_path / "copied-folder", sales.database)
    shutil.copytree(sales.home, copy.home)
    with sales.running() as one, copy.running() as two:
        change(Home(office.home), peers=(f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"))

        def alarmed(laptop: Laptop) -> bool:
            for each in (sales, copy):
                each.cli("devices")
            return any(each["clone_alarm"] for each in laptop.do("devices"))

        wait_until(lambda: alarmed(office), 60, "the alarm at the office")
        for answer in (
            office.cli("push", BUSINESS, sales.name),
            sales.cli("pull", office.name, "--business", BUSINESS),
        ):
            assert answer.error["code"] == "clone-alarm", answer
        wait_until(lambda: alarmed(sales), 60, "the alarm on the laptop itself")
        two.stop()
        assert sales.cli("clone", "resolve", sales.name).error["code"] == "not-admin"
        office.knows(one.port)
        office.do("clone", "resolve", sales.name)
        assert not any(each["clone_alarm"] for each in office.do("devices"))
        assert office.do("push", BUSINESS, sales.name)["outcome"] == "applied"
        wait_until(lambda: not any(each["clone_alarm"] for each in sales.do("devices")), 40, "the end of the alarm")


def test_a_restart_is_no_clone(pair: Pair) -> None:
    office, sales, _, second = pair
    for _ in range(2):
        second.stop()
        with sales.running() as again:
            office.knows(again.port)
            assert not any(each["clone_alarm"] for each in office.do("devices"))
            sales.do("devices")


# Recovery kits.


def test_a_repaired_laptop_is_itself_again(shops: Shops, tmp_path: Path) -> None:
    office, sales = shops.laptop("laptop-office", "shop"), shops.laptop("laptop-sales")
    shops.shop(office, sales)
    kit = tmp_path / "kit.age"
    assert office.cli("identity", "export", str(kit)).error["code"] == "passphrase-needed"
    weak = office.cli("identity", "export", str(kit), env=env({"BACKROOM_PASSPHRASE": "short"}))
    assert weak.error["code"] == "weak-passphrase"
    assert not kit.exists()
    archive = ArchiveKey(office.home / "keys").ensure()  # of an archive that is sealed
    made = office.do("init", "--kit", str(kit), env=env(SECRET))["kit"]
    assert made["authority"]
    assert made["recovery"] == office.do("keys", "show")["recovery"]  # there was none: the kit made it
    assert kit.stat().st_mode & 0o777 == 0o600
    assert office.cli("identity", "export", str(kit), env=env(SECRET)).error["code"] == "file-exists"
    backup = office.do("backup", "--full-device", "--output", str(tmp_path / "device.bundle"))
    node, roster = office.node_id, office.store.roster()

    repaired = shops.laptop("fresh-disk")
    fresh = repaired.node_id
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("not the passphrase\n")
    wrong = repaired.cli("identity", "import", str(kit), "--passphrase-file", str(passphrase))
    assert wrong.error["code"] == "wrong-passphrase"
    assert repaired.node_id == fresh
    passphrase.write_text("correct horse battery staple\n")
    repaired.do("identity", "import", str(kit), "--passphrase-file", str(passphrase))
    assert repaired.node_id == node
    assert repaired.store.roster() == roster
    assert repaired.store.authority_key() == office.store.authority_key()
    assert repaired.do("status")["name"] == office.name
    assert ArchiveKey(repaired.home / "keys").recipient() == archive
    assert (repaired.home / "keys" / "archive.key").stat().st_mode & 0o777 == 0o600
    empty = shops.database("platform", "nobody")
    change(Home(repaired.home), database_url=empty.dsn)
    assert backup["sealed"]
    assert backup["file"].endswith("device.bundle.age")
    assert repaired.cli("restore", backup["file"], "--yes").error["code"] == "passphrase-needed"
    assert repaired.do("restore", backup["file"], "--yes", env=env(SECRET))["inserted"] > 500
    by_kit = sales.do("inspect", backup["file"], "--identity", str(kit), env=env(SECRET))
    assert by_kit["valid"]
    # Another device of a shop does not become this one.
    assert sales.cli("identity", "import", str(kit), env=env(SECRET)).error["code"] == "wrong-kit"
    damaged = tmp_path / "damaged.age"
    damaged.write_bytes(kit.read_bytes()[:-1] + b"x")
    assert shops.laptop("other").cli("identity", "import", str(damaged), env=env(SECRET)).code == 1


# Replacement.


def test_a_new_laptop_takes_the_place_of_a_lost_one(shops: Shops) -> None:
    office, lost, other = shops.laptop("laptop-office"), shops.laptop("laptop-lost", "shop"), shops.laptop("other")
    shops.shop(office, lost, other)
    fresh = shops.laptop("laptop-new")
    with office.running() as first:
        with lost.running() as second:
            for laptop in (office, lost):
                laptop.knows(first.port, second.port)
            office.do("pull", lost.name, "--full")
            lost.execute("UPDATE business_customers SET name = 'after the full backup', \"updatedAt\" = now()")
            lost.do("push", BUSINESS, office.name)
            office.execute("DELETE FROM business_customers")
        orders = """SELECT o.id FROM business_orders o JOIN businesses b ON b.id = o."businessId"
                    WHERE b.name NOT LIKE 'Demo%' ORDER BY 1"""
        expected = lost.query(orders)
        for laptop in (fresh, other):
            laptop.knows(first.port)
        denied = asyncio.run(_held_of(other, office, lost.node_id))
        assert denied == "not-allowed"
        assert fresh.cli("replace", lost.name).error["code"] == "no-shop"
        invited = office.do("invite", "--replaces", lost.name)
        place = f"127.0.0.1:{invited['port']}"
        done = fresh.do("replace", lost.name, invited["code"], "--address", place)
        assert [each["kind"] for each in done["restored"]] == ["full", "business-specific"]
        assert {each["from"] for each in done["restored"]} == {office.name}
        assert fresh.query(orders) == expected != []
        assert fresh.query("SELECT count(*) FROM business_customers WHERE name = 'after the full backup'")[0][0]
        roster = office.store.roster()
        assert roster.require(fresh.node_id).replaces == lost.node_id
        assert not roster.trusts(lost.node_id)
        with pytest.raises(PeerError, match="revoked"):
            asyncio.run(_hello(lost, office, first.port))
        assert other.cli("replace", lost.name).error["code"] == "not-replacing"
        again = fresh.do("replace", lost.name)
        assert sum(each["inserted"] + each["updated"] for each in again["restored"]) == 0


async def _held_of(asking: Laptop, holder: Laptop, source: str) -> str:
    from agent.operations.network import network
    from agent.operations.workspace import Workspace
    from agent.peers.trusting import backups_of

    async with network(Workspace(Home(asking.home))) as net:
        with pytest.raises(PeerError) as caught:
            await backups_of(net.directory, holder.node_id, source)
    return caught.value.code


async def _hello(asking: Laptop, other: Laptop, port: int) -> None:
    async with Link(asking.store, Address("127.0.0.1", port), other.node_id) as link:
        await link.hello()
