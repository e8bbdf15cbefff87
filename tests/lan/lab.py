"""What the cases of the laboratory share: laptops put into networks, what the doctor says, and how a case ends."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.lan.network import Host
from tests.support.agents import ANYWHERE, Answer, Laptop, ended, wait_until

BUSINESS = "Restaurant ABC"
ORDERS = 3000
"""A business of so many orders is 4.7 MB that are sent as they are (``--no-compress``)."""
HALF_WAY = 1_500_000


def on(host: Host, laptop: Laptop) -> Laptop:
    """The laptop, connected to that host's network."""
    laptop.within = ("ip", "netns", "exec", host.name)
    return laptop


def codes(laptop: Laptop, *arguments: str, wait: float) -> dict[str, dict[str, Any]]:
    """The doctor's findings by code. ``wait``: how long others have to answer; short where nobody will."""
    found = laptop.cli("doctor", "--wait", str(wait), *arguments, env=ANYWHERE).value["findings"]
    return {each["code"]: each for each in found}


def identical(office: Laptop, sales: Laptop, env: dict[str, str] = ANYWHERE) -> None:
    """The end of a case: the business is the same on both sides, to the last row."""
    assert office.do("compare", "--business", BUSINESS, "--with", sales.name, env=env)["identical"] is True


def push_and_compare(office: Laptop, sales: Laptop) -> None:
    """Push, and both sides are the same."""
    assert office.do("push", BUSINESS, sales.name, env=ANYWHERE)["outcome"] == "applied"
    identical(office, sales)


def slow(host: Host, rate: str) -> None:
    """Let the host's cable pass no more than so much, so that a case happens in the middle of a transfer."""
    host.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms")


def arrived(laptop: Laptop) -> int:
    """How many bytes of a bundle on its way in are on the disk."""
    return max((path.stat().st_size for path in laptop.home.glob("spool/*.part")), default=0)


def begin_push(office: Laptop, sales: Laptop, env: dict[str, str] = ANYWHERE) -> subprocess.Popen[str]:
    """Start a push, and wait until it is in the middle of its bytes."""
    pushing = office.start("push", BUSINESS, sales.name, "--no-compress", env=env)
    wait_until(lambda: arrived(sales) > HALF_WAY or pushing.poll() is not None, 60, "half a bundle")
    assert pushing.poll() is None, ended(pushing)
    return pushing


def finished(pushing: subprocess.Popen[str]) -> dict[str, Any]:
    """What the push ended with, once it was applied without sending all of it again."""
    answer: Answer = ended(pushing, 120)
    assert answer.code == 0, answer
    done: dict[str, Any] = answer.value
    assert done["outcome"] == "applied"
    # What lay in buffers when it broke off is sent twice, the rest is not.
    assert done["bytes_sent"] < done["bytes"] + 3_000_000
    return done
