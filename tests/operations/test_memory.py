"""Memory stays where it is when the database grows; ``scripts/memory.py`` measures the same with 500 MB."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import psutil
import pytest

from agent.sealing.age import new_identity
from tests.support.agents import Laptop, Shops, ended

GROWTH, LIMIT = 30 << 20, 200 << 20
SMALL, LARGE = 1_000, 4_000


class Watch:
    """The most memory that a process has, in bytes, until ``stop`` or its end."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self.peak = 0
        self._seen = psutil.Process(process.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        with suppress(psutil.Error):
            while not self._over.wait(0.03):
                self.peak = max(self.peak, self._seen.memory_info().rss)


def peak(laptop: Laptop, *arguments: str) -> int:
    """The peak of a command that must succeed."""
    process = laptop.start(*arguments)
    watch = Watch(process)
    answer = ended(process)
    assert answer.code == 0, answer
    return watch.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="memory is counted in another way there")
def test_a_larger_database_takes_no_more_memory(shops: Shops) -> None:
    peaks = {scale: measure(shops, scale) for scale in (SMALL, LARGE)}
    grown = {what: peaks[LARGE][what] - peaks[SMALL][what] for what in peaks[SMALL]}
    assert max(grown.values()) < GROWTH, (peaks, grown)
    assert max(peaks[LARGE].values()) < LIMIT, peaks


def measure(shops: Shops, scale: int) -> dict[str, int]:
    """The peaks of all that is done with a shop of this size."""
    office = shops.laptop(f"laptop-office-{scale}", shops.large_database(scale))
    sales = shops.laptop(f"laptop-sales-{scale}")
    shops.shop(office, sales)
    peaks = {}
    with sales.running() as agent:
        office.knows(agent.port)
        watch = Watch(agent.process)
        peaks["push"] = peak(office, "push", "Restaurant ABC", sales.name, "--no-compress")
        peaks["agent"] = watch.stop()
    identity, recipient = new_identity()
    (office.home / "identity.txt").write_text(f"{identity}\n")
    office.do("keys", "add", recipient)
    file = office.home / "full.bundle.age"
    peaks["backup"] = peak(office, "backup", "--full", "--no-compress", "--output", str(file))
    opening = ("--identity", str(office.home / "identity.txt"))
    peaks["restore"] = peak(sales, "restore", str(file), "--yes", "--conflicts", "newer", *opening)
    return peaks
