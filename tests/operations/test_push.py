"""Pushing a business from laptop to laptop, by the commands and with agents that are processes of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.home import Home
from agent.operations.look import schema_of
from agent.operations.workspace import Workspace
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from tests.support.agents import Agent, Laptop, Shops

BUSINESS = "Restaurant ABC"


def classes(laptop: Laptop) -> Classification:
    return asyncio.run(schema_of(Workspace(Home(laptop.home))))[1]


def business_id(laptop: Laptop, name: str = BUSINESS) -> str:
    return str(next(each["id"] for each in laptop.do("businesses") if each["name"] == name))


def counts(answer: dict[str, Any]) -> dict[str, int]:
    return {name: answer[name] for name in ("inserted", "updated", "unchanged", "kept", "deleted")}


@pytest.fixture(scope="module")
def trio(module_shops: Shops) -> Any:
    """An office with the whole shop, and two laptops without a business whose agents run."""
    office = module_shops.laptop("laptop-office-001", "shop")
    sales, store = module_shops.laptop("laptop-sales-002"), module_shops.laptop("laptop-store-003")
    module_shops.shop(office, sales, store)
    with office.running() as first, sales.running() as second, store.running() as third:
        ports = first.port, second.port, third.port
        for laptop in (office, sales, store):
            laptop.knows(*ports)
        yield office, sales, store, second


def test_a_pushed_business_is_complete_and_brings_no_device_state(trio: tuple[Laptop, Laptop, Laptop, Agent]) -> None:
    office, sales, store, _ = trio
    tables = classes(sales)
    device_tables = tables.of_class(TableClass.DEVICE)
    transient = tables.of_class(TableClass.TRANSIENT)
    assert len(device_tables) == 11
    before = sales.digest()
    node, source = sales.node_id, office.digest()

    answer = office.do("push", BUSINESS, sales.name)
    assert answer["outcome"] == "applied"
    assert sum(counts(answer).values()) == answer["rows"] > 500
    assert answer["receipt"]["receiver_node"] == node
    # Tests run in any order: a push before this one may have left what a delta builds on.
    assert 0 < answer["bytes_sent"] <= answer["bytes"]
    assert {name: sum(row.values()) for name, row in answer["tables"].items()}

    after = sales.digest()
    changed = {table for table in after if after[table] != before[table]}
    assert changed <= set(answer["tables"]) | {name for name in device_tables if after[name][0] > before[name][0]}
    assert not changed & set(transient)
    whole = business_id(office)
    for table, owner in (
        ("business_orders", '"businessId"'),
        ("businesses", "id"),
        ("business_customers", '"businessId"'),
    ):
        sql = f"SELECT t::text FROM {table} t WHERE {owner} = $1 ORDER BY 1"
        assert sales.query(sql, whole) == office.query(sql, whole) != []
    others = sales.query('SELECT count(*) FROM business_orders WHERE "businessId" <> $1', whole)
    assert others[0][0] == 0
    assert sales.node_id == node
    assert office.digest() == source
    for table in device_tables:
        if after[table] != before[table]:  # placeholders alone: rows that came, nothing that went or changed
            assert after[table][0] > before[table][0]

    again = office.do("push", BUSINESS, sales.name)
    assert counts(again) == {"inserted": 0, "updated": 0, "unchanged": again["rows"], "kept": 0, "deleted": 0}
    assert sales.digest() == after

    compared = office.do("compare", "--business", BUSINESS, "--with", sales.name)
    assert compared["identical"] is True

    onward = sales.do("push", BUSINESS, store.name)
    assert onward["outcome"] == "applied"
    assert office.do("compare", "--business", BUSINESS, "--with", store.name)["identical"] is True

    pushed = {answer["bundle_id"], again["bundle_id"]}
    sent = [each for each in office.history()["transfers"] if each["bundle_id"] in pushed]
    assert [(each["state"], each["direction"], each["mode"]) for each in sent] == [("done", "sent", "push")] * 2
    received = sales.history()
    came = [each for each in received["transfers"] if each["bundle_id"] in pushed]
    assert [(each["state"], each["direction"], each["mode"]) for each in came] == [("done", "received", "push")] * 2
    assert [each["state"] for each in received["restores"] if each["bundle_id"] in pushed] == ["applied"] * 2
    assert [each["origin"] for each in received["backups"] if each["id"] in pushed] == ["received"] * 2
    assert sales.files("spool") == []


def test_pushes_that_follow_each_other_see_every_change(trio: tuple[Laptop, Laptop, Laptop, Agent]) -> None:
    """Neither side looks again at what it knows to be untouched; whatever is touched, on either side, is seen."""
    office, sales, _, _ = trio
    whole = business_id(office)
    office.do("push", BUSINESS, sales.name)
    orders = office.query('SELECT id FROM business_orders WHERE "businessId" = $1 ORDER BY id LIMIT 2', whole)
    (one,), (other,) = orders
    office.execute(f"UPDATE business_orders SET notes = 'paid', \"updatedAt\" = now() WHERE id = '{one}'")
    assert counts(office.do("push", BUSINESS, sales.name))["updated"] == 1
    notes = {path.name.partition("-")[0] for path in (*known(office), *known(sales))}
    assert notes == {"made", "restored"}
    for _ in range(2):
        again = office.do("push", BUSINESS, sales.name)
        assert again["unchanged"] == again["rows"]
    sales.execute(f"DELETE FROM business_order_items WHERE \"orderId\" = '{other}'")
    sales.execute(f"UPDATE business_orders SET notes = 'mine', \"updatedAt\" = '2020-01-01' WHERE id = '{one}'")
    answer = counts(office.do("push", BUSINESS, sales.name))
    assert (answer["updated"], answer["inserted"] > 0) == (1, True)
    assert office.do("compare", "--business", BUSINESS, "--with", sales.name)["identical"]


def known(laptop: Laptop) -> list[Path]:
    """The notes that backups and restores left."""
    return list((Path(laptop.home) / "state" / "known").glob("*.json"))


def test_the_newer_row_stays_and_the_older_one_is_replaced(trio: tuple[Laptop, Laptop, Laptop, Agent]) -> None:
    office, sales, _, _ = trio
    office.do("push", BUSINESS, sales.name)
    whole = business_id(office)
    ids = [
        row[0]
        for row in office.query('SELECT id FROM business_customers WHERE "businessId" = $1 ORDER BY id LIMIT 2', whole)
    ]
    change = "UPDATE business_customers SET name = '{}', \"updatedAt\" = now() + interval '{}' WHERE id = '{}'"
    sales.execute(change.format("newer there", "1 day", ids[0]))
    office.execute(change.format("newer here", "1 day", ids[1]))
    answer = office.do("push", BUSINESS, sales.name)
    assert (answer["updated"], answer["kept"], answer["inserted"]) == (1, 1, 0)
    # Both have the first bundle, so what travels is the changed row and the manifest: half of so small a bundle.
    assert answer["bytes_sent"] < answer["bytes"] * 0.6
    names = dict(sales.query("SELECT id, name FROM business_customers WHERE id = ANY($1)", ids))
    assert names == {ids[0]: "newer there", ids[1]: "newer here"}
    differs = office.cli("compare", "--business", BUSINESS, "--with", sales.name)
    assert differs.value["identical"] is False
    back = sales.do("push", BUSINESS, office.name)
    assert (back["updated"], back["kept"], back["inserted"]) == (1, 0, 0)
    assert office.do("compare", "--business", BUSINESS, "--with", sales.name)["identical"] is True


def test_pulls_are_for_admins_but_of_one_business(trio: tuple[Laptop, Laptop, Laptop, Agent]) -> None:
    office, sales, _, _ = trio
    office.do("push", BUSINESS, sales.name)
    before, device_rows = office.digest(), sales.digest()
    full = office.do("pull", sales.name, "--full")
    assert full["kind"] == "full"
    assert full["rows"] > 0
    device = office.do("pull", sales.name, "--full-device")
    assert device["kind"] == "full-device"
    assert "archive/device/backup-full-device-laptop-sales-002-" in device["file"]
    one = sales.do("pull", office.name, "--business", "Green Valley Grocery")
    assert one["kind"] == "business-specific"
    assert one["business"]["name"] == "Green Valley Grocery"

    for kind in ("--full", "--full-device"):
        error = sales.cli("pull", office.name, kind).error
        assert error["code"] == "admin-only"
        assert "admin" in error["message"]

    assert office.digest() == before
    assert sales.digest() == device_rows
    sentence = (
        "This is a full device backup from a different device (laptop-sales-002). Device-specific data cannot be "
        "restored to a different machine. Use a business or full backup instead."
    )
    for more in (("--plan",), ("--yes",), ("--yes", "--trust-source")):
        refused = office.cli("restore", device["file"], *more)
        assert refused.error["message"] == sentence
    assert office.digest() == before
    inspected = office.do("inspect", device["bundle_id"])
    assert inspected["valid"] is True
    assert inspected["made_by"]["known"] == "member"
    states = {(each["mode"], each["state"]) for each in sales.history()["transfers"]}
    assert ("pull", "refused") in states
    assert ("pull", "done") in states


def test_a_push_that_cannot_be_is_refused_with_words(trio: tuple[Laptop, Laptop, Laptop, Agent]) -> None:
    office, sales, _, _ = trio
    cases = {
        ("push", BUSINESS, "laptop-of-nobody"): "laptop-of-nobody",
        ("push", BUSINESS, office.name): "is this laptop",
        ("push", "No Such Shop", sales.name): "No Such Shop",
        ("pull", sales.name, "--business", "No Such Shop"): "No Such Shop",
    }
    for arguments, words in cases.items():
        error = office.cli(*arguments).error
        assert words in error["message"]
        assert error["hint"]


def test_a_schema_without_room_refuses_the_push_and_keeps_the_bundle(
    trio: tuple[Laptop, Laptop, Laptop, Agent],
) -> None:
    office, _, store, _ = trio
    store.execute('ALTER TABLE business_customers RENAME COLUMN "email" TO "mail"')
    try:
        before = store.digest()
        error = office.cli("push", BUSINESS, store.name).error
        assert store.digest() == before
    finally:
        store.execute('ALTER TABLE business_customers RENAME COLUMN "mail" TO "email"')
    assert error["code"] == "push-refused"
    assert "business_customers.email" in error["message"]
    assert office.history()["transfers"][0]["state"] == "refused"
    there = store.history()
    assert there["transfers"][0]["state"] == "refused"
    assert there["restores"][0]["state"] == "refused"
    assert store.files("spool") == []
