"""A push that sends its bundle while that is made, and either side fails meanwhile: nothing half done is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.pair import PUSH, Pair, done
from tests.faults.relay import Relay
from tests.faults.test_disk import disk, fill
from tests.support.agents import NO_MDNS, ROOT, Agent, ended, environment, wait_until
from tests.support.held import HELD_BYTES

BACKUP = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'backroom: the backup%'
"""


class Held:
    """A push whose bundle is half made; what there is of it is over there, or on its way."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self._folder = folder
        for note in pair.office.files("state/known"):
            note.unlink()  # or few rows would be read
        arguments = (str(folder), *pair.office.arguments(*PUSH))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.held", *arguments],
            env=environment(NO_MDNS),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        wait_until((self._folder / "held").exists, 40, "half a bundle")

    def go_on(self) -> None:
        (self._folder / "go").touch()


@contextmanager
def held(pair: Pair, folder: Path) -> Iterator[Held]:
    push = Held(pair, folder)
    try:
        push.wait()
        yield push
    finally:
        push.process.kill()
        push.process.communicate()


@contextmanager
def on_its_way(pair: Pair, agent: Agent, folder: Path) -> Iterator[Held]:
    """A push of which the receiver has some bytes."""
    with Relay(agent.port, hold=HELD_BYTES // 2) as relay:
        pair.office.knows(relay.port)
        with held(pair, folder) as push:
            assert relay.held.wait(20)
            relay.release()
            wait_until(lambda: pair.sales.files("spool"), what="a part in the spool")
            assert pair.newest(pair.sales)["state"] == "started"
            yield push
    pair.office.knows(agent.port)


@pytest.mark.parametrize("fails", ["the sender", "its database", "its disk"])
def test_a_bundle_that_is_not_finished_is_nowhere(pair: Pair, tmp_path: Path, fails: str) -> None:
    before = pair.change_much()
    with ExitStack() as stack:
        agent = stack.enter_context(pair.agent())
        archive = pair.office.home / "archive" / "business"
        if fails == "its disk":
            stack.enter_context(disk(archive, 40))
        push = stack.enter_context(on_its_way(pair, agent, tmp_path))
        if fails == "the sender":
            push.process.kill()
            push.process.communicate()
            assert pair.newest(pair.office)["state"] == "interrupted"
        else:
            if fails == "its database":
                pair.office.end_backend(pair.office.query(BACKUP)[0][0])
            else:
                fill(archive)
            push.go_on()
            error = ended(push.process).error
            assert error["code"] == {"its database": "database-connection-lost", "its disk": "disk-full"}[fails]
            ours, theirs = pair.newest(pair.office), pair.newest(pair.sales)
            assert (ours["state"], ours["error"]) == ("failed", "The bundle was not finished.")
            assert (theirs["state"], theirs["error_code"]) == ("refused", "cancelled")
            assert pair.sales.files("spool") == []
        assert pair.sales.digest() == before
    with pair.agent():
        done(pair.office.cli(*PUSH))
        pair.settled(before, before)


def test_the_receiver_dies_meanwhile_and_comes_back(pair: Pair, tmp_path: Path) -> None:
    before = pair.change_much()
    with pair.agent() as agent, on_its_way(pair, agent, tmp_path) as push:
        agent.kill()
        seen = pair.sales.digest()
        assert seen == before
        with pair.agent() as again:
            pair.office.knows(again.port)
            push.go_on()
            done(ended(push.process))
            pair.settled(before, seen)


def test_the_receivers_disk_fills_up_meanwhile(pair: Pair, tmp_path: Path) -> None:
    before = pair.change_much()
    spool = pair.sales.home / "spool"
    with disk(spool, 110), pair.agent() as agent:
        with on_its_way(pair, agent, tmp_path) as push:
            ballast = fill(spool)
            push.go_on()
            assert ended(push.process).error["code"] == "disk-full"
        assert pair.newest(pair.office)["state"] == "refused"
        assert pair.newest(pair.sales)["error_code"] == "disk-full"
        assert pair.sales.digest() == before
        ballast.unlink()
        done(pair.office.cli(*PUSH))
        pair.settled(before, before)


def test_a_receiver_that_is_not_there_is_told_as_such(pair: Pair, tmp_path: Path) -> None:
    """The bundle is made all the same, and is the first that the next push sends."""
    before = pair.change_much()
    with held(pair, tmp_path) as push:
        wait_until(lambda: pair.newest(pair.office)["state"] != "started", what="a push that gave up")
        push.go_on()
        assert ended(push.process).error["code"] == "peer-unreachable"
    record = pair.newest(pair.office)
    assert (record["state"], record["error_code"]) == ("interrupted", "peer-unreachable")
    assert pair.sales.name in record["error"]
    with pair.agent():
        assert done(pair.office.cli(*PUSH))["resumed"] is True
        pair.settled(before, before)
