"""Two laptops in network namespaces of their own, joined by a bridge: real mDNS, real TLS, real transfers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.peers.push import read_manifest
from tests.lan.network import Host, Lan, why_not
from tests.peers.laptops import Laptop, make_shop

REASON = why_not()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("lan"),
]
ROOT = Path(__file__).parents[2]


@contextmanager
def process(host: Host, *words: str) -> Iterator[subprocess.Popen[str]]:
    started = host.start(sys.executable, "-m", "tests.lan.laptop", *words)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        assert started.stdout is not None
        started.stdout.close()


@contextmanager
def serving(host: Host, folder: Path, laptop: Laptop) -> Iterator[None]:
    with process(host, "serve", str(folder), laptop.name) as started:
        assert started.stdout is not None
        while not (line := started.stdout.readline()).startswith("ready"):
            assert line, "the serving laptop ended"
        yield


def result(started: subprocess.Popen[str]) -> dict[str, Any]:
    assert started.stdout is not None
    for line in started.stdout:
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise AssertionError("the pushing laptop ended without a result")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Laptop]:
    monkeypatch.chdir(ROOT)
    return make_shop(tmp_path, ["laptop-front", "laptop-back"])


def arrived(back: Laptop, path: Path) -> bool:
    return (back.home.path / f"{read_manifest(path).bundle_id}.bundle").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("first", "second"),
    [(["10.77.0.1/24"], ["10.77.0.2/24"]), (["fd77::1/64"], ["fd77::2/64"])],
    ids=["ipv4", "ipv6"],
)
def test_they_find_each_other_within_three_seconds_and_push(
    shop: list[Laptop], tmp_path: Path, first: list[str], second: list[str]
) -> None:
    front, back = shop
    path = front.bundle(5_000_000)
    with Lan(first, second) as lan, serving(lan.hosts[1], tmp_path, back):
        with process(lan.hosts[0], "push", str(tmp_path), front.name, back.node_id, str(path)) as pushing:
            told = result(pushing)
    assert told["found"] < 3
    assert told["at"] == second[0].partition("/")[0]
    assert told["outcome"] == "stored"
    assert told["sent"] == path.stat().st_size
    assert arrived(back, path)


ASK = "import asyncio; from agent.peers import survey as s; print(*asyncio.run(s.multicast(asyncio.run(s.look()))))"


@pytest.mark.parametrize("address", ["10.77.0.1/24", "fd77::1/64"], ids=["ipv4", "ipv6"])
def test_a_laptop_listens_to_its_own_multicast_by_ipv4_and_by_ipv6(address: str) -> None:
    with Lan([address]) as lan:

        def heard() -> str:
            said = lan.hosts[0].start(sys.executable, "-c", ASK)
            return said.communicate(timeout=60)[0].strip()

        assert heard() == "Multicast(interface='eth0', heard=True, error='')"
        lan.hosts[0].run("ip", "link", "set", "eth0", "multicast", "off")
        assert "heard=False, error='multicast is switched off on it'" in heard()
