"""SIGKILL at any point of a push: the receiver's database is as before or as after, and the next push completes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.pair import BUSINESS, PUSH, Pair, done, pause, push
from tests.faults.relay import Relay
from tests.support.agents import ended, wait_until

TIMES = 3


def parts(pair: Pair) -> list[Path]:
    """What lies in the receiver's spool, without the marks beside it."""
    return [path for path in pair.sales.files("spool") if path.suffix == ".part"]


@pytest.mark.parametrize("number", range(TIMES))
def test_the_receiver_dies_at_a_random_moment(pair: Pair, number: int) -> None:
    before = pair.change_much()
    with pair.agent() as agent:
        sending = push(pair)
        agent.wait_for("offer answered")
        pause(random.uniform(0, 2.5))
        agent.kill()
        seen = pair.sales.digest()
    pause(random.uniform(0, 1))
    with pair.agent():
        done(ended(sending))
        pair.settled(before, seen)


@pytest.mark.parametrize("number", range(TIMES))
def test_the_sender_dies_at_a_random_moment(pair: Pair, number: int) -> None:
    before = pair.change_much()
    with pair.agent() as agent:
        sending = push(pair)
        pause(random.uniform(0.5, 3.5))
        sending.kill()
        sending.communicate()
        seen = pair.sales.digest()
        done(pair.office.cli(*PUSH))
        pair.settled(before, seen)
        assert not [each for each in agent.log() if each["level"] == "error"]


def test_the_sender_dies_half_way_and_goes_on_there(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent, Relay(agent.port, hold=400_000) as relay:
        pair.office.knows(relay.port)
        sending = push(pair)
        assert relay.held.wait(20)
        sending.kill()
        sending.communicate()
        relay.cut()
        relay.release()
        wait_until(lambda: parts(pair), what="a part in the spool")
        assert len(parts(pair)) == 1
        wait_until(lambda: pair.newest(pair.sales)["state"] == "interrupted", 20, "interrupted in the history")
        assert pair.newest(pair.office)["state"] == "interrupted"
        assert pair.sales.digest() == before
        size = pair.newest(pair.office)["bytes_total"]

        answer = done(pair.office.cli(*PUSH))
        assert answer["resumed"] is True
        assert answer["bytes_sent"] < 2 * size - 200_000
        pair.settled(before, before)
        states = [each["state"] for each in pair.sales.history()["transfers"][:2]]
        assert states == ["done", "done"]


def test_a_push_begun_afresh_leaves_no_old_part_behind(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent, Relay(agent.port, hold=300_000) as relay:
        pair.office.knows(relay.port)
        sending = push(pair)
        assert relay.held.wait(20)
        sending.kill()
        sending.communicate()
    with pair.agent():
        assert len(parts(pair)) == 1
        done(pair.office.cli(*PUSH, "--fresh"))
        pair.settled(before, before)


def test_the_receiver_dies_while_it_writes(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent:
        with pair.sales.blocking("business_orders"):
            sending = push(pair)
            pair.waiting_backend()
            agent.kill()
            assert pair.sales.digest() == before
        with pair.agent():
            restores = [each["state"] for each in pair.sales.history()["restores"]]
            assert restores.count("interrupted") >= 1
            done(ended(sending))
            pair.settled(before, before)


def test_the_agent_is_stopped_while_it_writes(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent:
        with pair.sales.blocking("business_orders"):
            sending = push(pair)
            pair.waiting_backend()
            assert agent.stop() == 0
        seen = pair.sales.digest()
        assert seen == before
    with pair.agent():
        answer = ended(sending)
        if answer.code:  # it was told that the other agent stops, and gave up
            done(pair.office.cli(*PUSH))
        pair.settled(before, seen)


def test_the_database_server_ends_the_restore(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent:
        with pair.sales.blocking("business_orders"):
            sending = push(pair)
            pair.sales.end_backend(pair.waiting_backend())
            error = ended(sending).error
        assert "restore" in error["message"].lower()
        assert pair.sales.digest() == before
        assert pair.newest(pair.sales)["state"] == "failed"
        assert pair.newest(pair.sales, "restores")["state"] == "failed"
        assert pair.newest(pair.office)["state"] in {"failed", "refused"}
        done(pair.office.cli(*PUSH))
        pair.settled(before, before)
        assert not [each for each in agent.log() if "exception" in each]


def test_a_receiver_that_sleeps_for_a_while(pair: Pair) -> None:
    before = pair.change_much()
    with pair.agent() as agent, Relay(agent.port, hold=200_000) as relay:
        pair.office.knows(relay.port)
        sending = push(pair)
        assert relay.held.wait(20)
        os.kill(agent.process.pid, signal.SIGSTOP)
        relay.release()
        pause(2)
        with pytest.raises(subprocess.TimeoutExpired):
            sending.wait(0.1)
        os.kill(agent.process.pid, signal.SIGCONT)
        done(ended(sending))
        pair.settled(before, before)


def test_connections_that_break_again_and_again(pair: Pair) -> None:
    before = pair.change_much()
    with (
        pair.agent() as agent,
        Relay(agent.port, cuts=[150_000, 200_000, 250_000, 150_000]) as relay,
    ):
        pair.office.knows(relay.port)
        answer = done(pair.office.cli(*PUSH))
        assert answer["resumed"] is False
        assert answer["bytes_sent"] < answer["bytes"] + 5 * 600_000
        pair.settled(before, before)
        receipts = [each for each in pair.sales.history()["transfers"] if each["bundle_id"] == answer["bundle_id"]]
        assert [each["state"] for each in receipts] == ["done"]


def test_a_backup_that_dies_leaves_nothing(pair: Pair) -> None:
    for _ in range(2):
        making = pair.office.start("backup", "--business", BUSINESS)
        pause(random.uniform(0.5, 1.5))
        making.kill()
        making.communicate()
    pair.office.do("backup", "--business", BUSINESS)
    with pair.office.running():  # starting it tidies up
        assert pair.leftovers() == []
