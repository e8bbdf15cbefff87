"""What a running agent costs while nothing happens: processes of their own in one shop that find each other by mDNS."""

from __future__ import annotations

import http.cookiejar
import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from bench_ways import ROOT, Bench
from memory import COMMAND, laptop

from agent.config import change
from agent.home import Home
from certs.roster import Role
from certs.store import Store

_SETTLE_SECONDS = 20


def idle(bench: Bench, dsn: str, peers: int, seconds: int) -> dict[str, Any]:
    """One agent among ``peers`` others, watched for so long after it has settled; and its page's first load."""
    homes = [laptop(bench.folder, f"idle-{number}", dsn) for number in range(peers + 1)]
    founder = Store(homes[0])
    founder.create_shop("Idle")
    for home in homes:
        change(Home(home), web_port=0)
        if home != homes[0]:
            member = Store(home)
            member.join_result(founder.issue(home.name, member.identity().public_key, Role.MEMBER))
    agents: list[subprocess.Popen[str]] = []
    try:
        for home in homes:
            agent = subprocess.Popen(
                [*COMMAND, "--home", str(home), "run", "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                text=True,
            )
            agents.append(agent)
            assert agent.stdout is not None
            agent.stdout.readline()
        time.sleep(_SETTLE_SECONDS)
        process = psutil.Process(agents[0].pid)
        before, sent = process.cpu_times(), _datagrams()
        time.sleep(seconds)
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        memory = process.memory_full_info()
        found = {
            "peers": peers,
            "seconds": seconds,
            "cpu percent": round(100 * used / seconds, 2),
            "rss MB": round(memory.rss / 1e6, 1),
            "of its own MB": round(memory.uss / 1e6, 1),
            "datagrams a minute, of one": round((_datagrams() - sent) * 60 / seconds / len(homes), 1),
        }
        for _ in range(3):
            _load_page(bench, homes[0])
    finally:
        for agent in agents:
            agent.send_signal(signal.SIGTERM)
        for agent in agents:
            agent.wait()
    return found


def _load_page(bench: Bench, home: Path) -> None:
    """The page as a browser gets it: by a link, then with the session's cookie."""
    told = subprocess.check_output([*COMMAND, "--home", str(home), "open", "--link", "--json"], cwd=ROOT, text=True)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    browser.addheaders = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    link = json.loads(told)["link"]
    for way in ("by a link", "again"):
        with bench.timed("page", way), browser.open(link, timeout=30) as page:
            page.read()
            link = page.url


def _datagrams() -> int:
    """The UDP datagrams that this machine has sent so far; 0 where the system does not say."""
    try:
        lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")]
    except OSError:
        return 0
    return int(lines[1][lines[0].index("OutDatagrams")])
