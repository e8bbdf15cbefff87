"""One laptop as a process of its own, to be run in a network namespace.

python -m tests.lan.laptop serve FOLDER NAME            prints "ready PORT" and serves until it is ended
python -m tests.lan.laptop push FOLDER NAME NODE FILE   prints one line of JSON: seconds, address, outcome
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from agent.home import Home
from agent.peers.client import PeerClient
from agent.peers.directory import Directory
from agent.peers.discovery import Discovery
from agent.peers.limits import ClientLimits, ServerLimits
from agent.peers.server import PeerServer
from certs.store import Store
from tests.peers.laptops import Laptop, Shelf


def opened(folder: str, name: str) -> Laptop:
    home = Home(Path(folder) / name)
    store = Store(home.path)
    return Laptop(name, home, store, Shelf(store, home))


async def serve(laptop: Laptop) -> None:
    limits = ServerLimits(idle_seconds=5, handshake_seconds=5)
    async with PeerServer(laptop.store, laptop.shelf, limits=limits) as server, Discovery(poll=0.5) as discovery:
        await discovery.advertise(laptop.node_id, server.port)
        print(f"ready {server.port}", flush=True)
        await asyncio.Event().wait()


async def push(laptop: Laptop, node_id: str, path: Path) -> None:
    limits = ClientLimits(connect_seconds=3, idle_seconds=5, retry_seconds=60, longest_pause=1)
    begun = time.monotonic()
    async with Discovery(poll=0.5) as discovery:
        directory = Directory(laptop.store, discovery=discovery, limits=limits)
        link = await directory.connect(node_id)
        found = time.monotonic() - begun
        await link.close()
        pushed = await PeerClient(directory).push(
            node_id, path, tell=lambda phase, done, total, _: print(f"{phase} {done} {total}", flush=True)
        )
    print(json.dumps({"found": found, "at": link.address.host, "outcome": pushed.receipt.outcome, "sent": pushed.sent}))


def main() -> None:
    verb, folder, name, *rest = sys.argv[1:]
    laptop = opened(folder, name)
    asyncio.run(serve(laptop) if verb == "serve" else push(laptop, rest[0], Path(rest[1])))


if __name__ == "__main__":
    main()
