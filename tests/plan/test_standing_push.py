"""A standing push between two real agents: "Restaurant ABC to laptop-sales-002, and when it comes back online"."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest

from agent.config import change
from agent.home import Home
from agent.zone import LOCAL
from tests.support import agents
from tests.support.agents import Agent, Laptop, Shops, wait_until

# The same program, that looks for laptops every second and not every two minutes, and takes a laptop that was away for
# a second as one that came back.
QUICK = """
import sys
from datetime import timedelta
from agent.cli.main import main
from agent.schedule import due, runner
runner.TICK_SECONDS, runner.LOOK_FOR_DEVICES = 0.5, timedelta(seconds=1)
due.COMEBACK_GAP = timedelta(seconds=1)
main(sys.argv[1:])
"""
NAME = "SELECT name FROM businesses WHERE name LIKE 'Restaurant ABC%'"


def arrived(sales: Laptop, name: str) -> None:
    wait_until(lambda: [row[0] for row in sales.query(NAME)] == [name], 40, f"{name} on {sales.name}")


def runs(office: Laptop) -> list[str]:
    return [each["state"] for each in office.do("history")["runs"]]


def test_a_standing_push_goes_when_the_laptop_comes_back_online(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "BACKROOM", (sys.executable, "-c", QUICK))
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    identity = str(office.query("SELECT id FROM businesses WHERE name = 'Restaurant ABC'")[0][0])
    past = (datetime.now(UTC).astimezone(LOCAL) - timedelta(minutes=2)).strftime("%H:%M")  # next: tomorrow
    push = ("push", "--business", identity, "--to", sales.name, "--when-online", "--at", past)
    with sales.running() as agent:
        port = agent.port
    change(Home(sales.home), port=port)
    office.knows(port)
    office.do("schedule", "add", "restaurant", *push)
    with office.running() as at_office:
        sales.knows(at_office.port)
        assert sales.query(NAME) == []
        with sales.running() as agent:
            arrived(sales, "Restaurant ABC")
            _pushed(at_office)
        office.execute(
            "UPDATE businesses SET name = 'Restaurant ABC 2', \"updatedAt\" = now() WHERE name = 'Restaurant ABC'"
        )
        wait_until(lambda: not _online(office, sales), 20, "going offline")
        with sales.running():
            arrived(sales, "Restaurant ABC 2")
    assert set(runs(office)) == {"done"}
    received = [each for each in sales.history()["transfers"] if each["direction"] == "received"]
    assert [each["state"] for each in received] == ["done", "done"]


def _pushed(agent: Agent) -> None:
    agent.wait_for("done", entry="restaurant", task="push")


def _online(office: Laptop, sales: Laptop) -> bool:
    return any(each["name"] == sales.name and each["online"] for each in office.do("devices"))
