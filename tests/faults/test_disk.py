"""A disk that is full where bundles arrive: told in words, nothing changed, and fine again once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.pair import PUSH, Pair, done, push
from tests.faults.relay import Relay
from tests.support.agents import ended


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of that size at ``folder``."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of that folder; the file that takes it."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 4096))
    return ballast


def test_a_disk_without_room_refuses_the_offer(pair: Pair) -> None:
    before = pair.change_much()
    with disk(pair.sales.home / "spool", 50), pair.agent():
        error = pair.office.cli(*PUSH).error
        assert error["code"] == "disk-full"
        assert "laptop-sales-002" in error["message"]
        assert error["hint"]
        assert pair.sales.files("spool") == []
        assert pair.newest(pair.office)["state"] == "refused"
    assert pair.sales.digest() == before
    with pair.agent():
        done(pair.office.cli(*PUSH))
        pair.settled(before, before)


def test_a_disk_that_fills_up_on_the_way(pair: Pair) -> None:
    before = pair.change_much()
    spool = pair.sales.home / "spool"
    with disk(spool, 110), pair.agent() as agent, Relay(agent.port, hold=300_000) as relay:
        pair.office.knows(relay.port)
        sending = push(pair)
        assert relay.held.wait(20)
        ballast = fill(spool)
        relay.release()
        error = ended(sending).error
        assert error["code"] == "disk-full"
        assert pair.sales.digest() == before
        assert agent.process.poll() is None
        ballast.unlink()
        pair.office.knows(agent.port)
        done(pair.office.cli(*PUSH))
        pair.settled(before, before)
