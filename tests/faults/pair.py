"""What the tests of faults ask of two laptops."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.config import change
from agent.home import Home
from tests.support.agents import Agent, Answer, Laptop, wait_until

BUSINESS = "Restaurant ABC"
PUSH = ("push", BUSINESS, "laptop-sales-002", "--no-compress")
Digest = dict[str, tuple[int, str]]


@dataclass
class Pair:
    """An office that pushes, and a sales laptop whose agent may be killed and started again on the same port."""

    office: Laptop
    sales: Laptop
    port: int = field(default=0)

    @contextmanager
    def agent(self, env: Mapping[str, str] = {}) -> Iterator[Agent]:
        """The sales laptop's agent."""
        with self.sales.running(env) as agent:
            if agent.port != self.port:
                self.port = agent.port
                change(Home(self.sales.home), port=agent.port)
            self.office.knows(agent.port)
            yield agent

    def change_much(self) -> Digest:
        """Make every order of the office newer; returns the sales laptop's rows before they are pushed.

        Earlier bundles go, as if pruned: the next one travels whole and can be cut at any byte.
        """
        for path in self.sales.files("archive/business"):
            path.unlink()
        self.office.execute(
            'UPDATE business_orders SET "updatedAt" = now(), notes = md5(random()::text) WHERE "businessId" = '
            f"(SELECT id FROM businesses WHERE name = '{BUSINESS}')"
        )
        return self.sales.digest()

    def identical(self) -> bool:
        """Whether both have the same orders of the business."""
        sql = (
            "SELECT md5(string_agg(o::text, '|' ORDER BY o.id)) FROM business_orders o JOIN businesses b "
            f"""ON b.id = o."businessId" WHERE b.name = '{BUSINESS}'"""
        )
        return bool(self.office.query(sql)[0][0] == self.sales.query(sql)[0][0])

    def settled(self, before: Digest, seen: Digest) -> None:
        """After the push went through: what was seen meanwhile was before or after, and nothing is left over."""
        after = self.sales.digest()
        assert self.identical()
        assert before != after
        assert seen in (before, after)
        # The receipt comes before the bundle is put away.
        wait_until(lambda: self.sales.files("spool") == [], 10, "an empty spool")
        wait_until(lambda: self.leftovers() == [], 10, "an archive without anything but bundles")
        for laptop in (self.office, self.sales):
            history = laptop.history()
            open_states = {"started", "running"}
            assert not [each for each in history["transfers"] + history["restores"] if each["state"] in open_states]

    def leftovers(self) -> list[str]:
        """Files in the archives that are no bundles."""
        return [
            path.name
            for laptop in (self.office, self.sales)
            for path in laptop.files("archive")
            if path.suffix != ".bundle" and "history.sqlite" not in path.name
        ]

    def newest(self, laptop: Laptop, what: str = "transfers") -> dict[str, Any]:
        """The newest record of a history."""
        return laptop.history()[what][0]

    def waiting_backend(self) -> int:
        """The process of the receiver's restore once it waits for a lock."""
        sql = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'backroom: the restore%'"
        )
        rows = wait_until(lambda: self.sales.query(sql), what="the restore")
        return int(rows[0][0])


def push(pair: Pair) -> subprocess.Popen[str]:
    """Start the push."""
    return pair.office.start(*PUSH)


def done(answer: Answer) -> dict[str, Any]:
    """The result of a push that must have gone through."""
    assert answer.code == 0, answer
    value: dict[str, Any] = answer.value
    assert value["outcome"] == "applied"
    return value


def pause(seconds: float) -> None:
    """Let time pass."""
    time.sleep(seconds)
