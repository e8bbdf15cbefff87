"""Transfers under way: listed, cancelled from either side, held to a pace; one backup for several laptops."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.archive.errors import DiskFullError
from agent.archive.writer import Writer
from agent.config import change
from agent.home import Home
from agent.operations.transfers import push
from agent.operations.workspace import Workspace
from protocol.messages import Receipt, SignedReceipt
from tests.support.agents import Laptop, Shops, ended, wait_until

BUSINESS = "Restaurant ABC"


@pytest.fixture
def slow(shops: Shops) -> Any:
    """An office that sends slowly, and a sales laptop whose agent runs."""
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    with sales.running() as agent:
        office.knows(agent.port)
        change(Home(office.home), bandwidth_limit=0.02)
        yield office, sales


def under_way(laptop: Laptop) -> dict[str, Any]:
    """The transfer that is under way there, once bytes have come."""

    def find() -> dict[str, Any] | None:
        found: list[dict[str, Any]] = laptop.do("transfers")
        return next((each for each in found if each["offset"] or each["direction"] == "sent"), None)

    found: dict[str, Any] = wait_until(find, 30, "a transfer")
    return found


def pushing(office: Laptop, sales: Laptop) -> subprocess.Popen[str]:
    return office.start("push", BUSINESS, sales.name, "--no-compress")


def test_a_push_whose_backup_fails_leaves_nothing_over_there(
    slow: tuple[Laptop, Laptop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle is sent while it is made, and its last bytes find the disk full."""
    office, sales = slow
    before = sales.digest()

    async def fail(self: Writer, name: str | None = None) -> Path:
        while not (found := sales.do("transfers")) or not found[0]["offset"]:
            await asyncio.sleep(0.05)
        raise DiskFullError("The disk is full.", "Free some space.")

    async def push_now() -> None:
        workspace = Workspace(Home(office.home))
        async with workspace.history() as history:
            await push(workspace, history, BUSINESS, sales.name, compress=False)

    monkeypatch.setattr(Writer, "commit", fail)
    monkeypatch.setattr("agent.archive.writer.BUFFER", 1000)
    with pytest.raises(DiskFullError):
        asyncio.run(push_now())
    assert office.history()["backups"] == []
    assert [each["state"] for each in office.history()["transfers"]] == ["failed"]
    assert [each["state"] for each in sales.history()["transfers"]] == ["refused"]
    assert sales.files("spool") == []
    assert sales.digest() == before


def test_cancelled_by_the_receiver(slow: tuple[Laptop, Laptop]) -> None:
    office, sales = slow
    before = sales.digest()
    sending = pushing(office, sales)
    there = under_way(sales)
    assert there["peer"] == office.name
    assert there["what"] == BUSINESS
    assert there["size"] > there["offset"]
    assert sales.do("cancel", there["id"][:12])["direction"] == "received"
    error = ended(sending).error
    assert error["code"] == "cancelled"
    assert sales.name in error["message"]
    assert sales.files("spool") == []
    assert sales.digest() == before
    assert [each["error_code"] for each in sales.history()["transfers"]] == ["cancelled"]
    assert [each["error_code"] for each in office.history()["transfers"]] == ["cancelled"]
    assert sales.do("transfers") == []
    assert sales.cli("cancel", there["id"]).error["code"] == "not-cancelled"
    assert sales.cli("cancel", "nothing").error["code"] == "no-such-record"
    change(Home(office.home), bandwidth_limit=None)
    assert office.do("push", BUSINESS, sales.name)["outcome"] == "applied"


def test_cancelled_by_the_sender(slow: tuple[Laptop, Laptop]) -> None:
    office, sales = slow
    sending = pushing(office, sales)
    under_way(sales)
    here = under_way(office)
    assert (here["direction"], here["phase"]) == ("sent", "sending")
    office.do("cancel", here["id"])
    assert ended(sending).error["code"] == "cancelled"
    assert sales.files("spool") == []
    assert [each["error_code"] for each in sales.history()["transfers"]] == ["cancelled"]


def test_stopped_by_the_sender_and_gone_on_with(slow: tuple[Laptop, Laptop]) -> None:
    office, sales = slow
    sending = pushing(office, sales)
    under_way(sales)
    sending.send_signal(signal.SIGINT)
    assert ended(sending).code == 130
    wait_until(lambda: sales.history()["transfers"][0]["state"] == "interrupted", 20, "interrupted over there")
    (there,) = sales.history()["transfers"]
    assert (there["state"], there["error_code"]) == ("interrupted", "stopped")
    assert office.name in there["error"]
    # The agent tells other processes once a second what is under way.
    wait_until(lambda: [each["phase"] for each in sales.do("transfers")] == ["interrupted"], 20, "the list over there")
    change(Home(office.home), bandwidth_limit=None)
    done = office.do("push", BUSINESS, sales.name)
    assert done["resumed"] is True
    assert {each["state"] for each in sales.history()["transfers"]} == {"done"}
    assert sales.files("spool") == []
    # Both sides keep the receipt that the receiver signed.
    for each in (*sales.history()["transfers"], *office.history()["transfers"]):
        assert Receipt.decode(SignedReceipt.decode(each["receipt"]).body).receiver_node == sales.node_id

    sending = office.start("push", BUSINESS, sales.name)
    assert ended(sending).code == 0
    change(Home(office.home), bandwidth_limit=0.02)
    for path in sales.files("archive/business"):
        path.unlink()  # as if pruned: else little would travel
    sending = pushing(office, sales)
    left = under_way(sales)["id"]
    sending.send_signal(signal.SIGINT)
    ended(sending)
    sales.do("cancel", left)
    assert sales.files("spool") == []


def test_one_backup_for_several_laptops(shops: Shops) -> None:
    office, sales, store, away = (
        shops.laptop("laptop-office-001", "shop"),
        shops.laptop("laptop-sales-002"),
        shops.laptop("laptop-store-003"),
        shops.laptop("laptop-away-004"),
    )
    shops.shop(office, sales, store, away)
    with sales.running() as second, store.running() as third:
        office.knows(second.port, third.port)
        both = office.do("push", BUSINESS, sales.name, store.name)
        assert both["complete"] is True
        assert [each["outcome"] for each in both["results"]] == ["applied", "applied"]
        for each in (sales, store):
            assert office.do("compare", "--business", BUSINESS, "--with", each.name)["identical"] is True
        assert len(office.history()["backups"]) == 1

        answer = office.cli("push", BUSINESS, "--all")
        assert answer.code == 1
        results = {each["device"]["name"]: each for each in json.loads(answer.out)["results"]}
        assert results[sales.name]["outcome"] == results[store.name]["outcome"] == "applied"
        assert results[away.name]["error"]["code"] in ("peer-not-found", "wrong-node")

        # A bundle that names no target is taken from its own source alone.
        bundle = both["bundle_id"]
        assert sales.history()["backups"][0]["id"] != ""
        assert bundle in {each["id"] for each in sales.history()["backups"]}
    assert office.cli("push", BUSINESS).code == 2
    assert office.cli("push", BUSINESS, sales.name, "--all").code == 2
