"""Throws garbage at a peer server over real sockets: raw bytes, TLS strangers, broken HTTP, mangled messages.

    python scripts/fuzz_peer.py [--seconds 600] [--seed N]

Half of it comes from a device of the shop, half from strangers. It fails if the server stops answering a good peer,
logs an exception, keeps memory or files, or turns somebody away without a word in its log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import random
import ssl
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.peers import http
from agent.peers.limits import ServerLimits
from agent.peers.server import PeerServer
from certs.keys import server_name
from certs.tls import client_context
from protocol.manifest import Kind
from protocol.messages import Offer
from protocol.requests import CompareRequest, PullRequest, RangeRequest, RowHashRequest, Whereabouts
from tests.peers.laptops import Laptop, make_laptop, make_shop

LIMITS = ServerLimits(
    handshake_seconds=1,
    first_request_seconds=1,
    idle_seconds=1,
    uploads=8,
    uploads_per_peer=8,
    offers_per_minute=1 << 30,
)
ROUNDS = 4
QUIET_SECONDS = 45.0
"""asyncio waits up to 30 seconds for the other side's end of a TLS connection."""
MOST_GROWTH = 60_000_000
MOST_OBJECTS = 20_000
TOGETHER = 8
PATHS = (
    *("/v1/hello", "/v1/roster", "/v1/offers", "/v1/uploads/t-x", "/v1/transfers/t-x?wait=0", "/v1/businesses"),
    *("/v1/pulls", "/v1/pulls/p-x", "/v1/bundles/b", "/v1/compare", "/v1/compare/ranges", "/v1/compare/rows"),
    *("/v1/schema", "/v1/peers", "/v1/clock", "/v1/renewal", "/v2/hello", "/", "/../../etc/passwd", "/%00"),
)
METHODS = ("GET", "POST", "PATCH", "HEAD", "DELETE", "PUT", "OPTIONS", "TRACE", "CONNECT", "G\0T")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a process holds: open files, running tasks, objects of Python, bytes of memory."""

    files: int
    tasks: int
    objects: int
    memory: int


class Fuzz:
    """One server under fire. ``run`` returns how many throws of which kind were made; raises ``AssertionError``."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.back, self.front = make_shop(folder, ["laptop-back", "laptop-front"])
        self.stranger = make_laptop(folder, "laptop-stranger")
        self.stranger.store.create_shop("Elsewhere")
        self.port = 0
        self.thrown: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()
        self.refused = 0
        self.refusals_logged = 0
        self.failures: list[str] = []
        path = self.front.bundle(300_000, Kind.BUSINESS)
        self.bundle = path.read_bytes()
        from agent.peers.push import read_manifest

        manifest = read_manifest(path).encode()
        self.messages: tuple[bytes, ...] = tuple(
            message.encode()
            for message in (
                Offer(manifest, len(self.bundle)),
                PullRequest("business-specific", "x"),
                CompareRequest("b1", {"orders": ("id",)}, {}, "s"),
                RangeRequest("b1", "orders", ("id",), ("id",), session="s"),
                RowHashRequest("b1", "orders", ("id",), ("id",), session="s"),
                Whereabouts({self.front.node_id: ("10.0.0.1:1",)}),
            )
        )

    def hear(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A structlog processor: what the server says is counted, and kept where it must not be."""
        self.logged[str(event.get("event"))] += 1
        if event.get("event") == "peer refused":
            self.refusals_logged += 1
        if event.get("exc_info") or event.get("log_level") in ("error", "critical") or event.get("event") == "failed":
            self.failures.append(str(dict(event))[:500])
        raise structlog.DropEvent

    async def run(self, seconds: float) -> Counter[str]:
        ways: tuple[Callable[[], Awaitable[None]], ...] = (
            self.raw,
            self.other_shop,
            self.http_garbage,
            self.requests,
            self.mangled,
            self.upload,
        )
        logging.getLogger("aiohttp.server").disabled = True  # it tells of every request that is no HTTP
        structlog.configure(processors=[structlog.processors.add_log_level, self.hear])
        seen: list[Kept] = []
        try:
            async with self.back.serve(limits=LIMITS) as server:
                self.port = server.port
                await self.good_peer()
                before = await self.kept(server, None)
                # What is remembered of transfers has its bound, which the first rounds reach.
                for _ in range(ROUNDS):
                    await self.volley(ways, seconds / ROUNDS)
                    await self.good_peer()
                    seen.append(await self.kept(server, before))
                    print(seen[-1], flush=True)
        finally:
            structlog.reset_defaults()
            logging.getLogger("aiohttp.server").disabled = False
        self.judge(before, seen)
        assert not self.failures, self.failures[:3]
        assert self.refused <= self.refusals_logged, f"{self.refused} refused, {self.refusals_logged} logged"
        assert self.back.shelf.applied == []
        return self.thrown

    async def kept(self, server: PeerServer, before: Kept | None) -> Kept:
        """What the process holds once the last connections are over: as much as before, or what is left after a while.

        The file of an upload that waits for its rest is meant to stay open, and is not counted.
        """
        process, end = psutil.Process(), time.monotonic() + QUIET_SECONDS
        while True:
            gc.collect()
            files = process.num_fds() - len(server.transfers())
            now = Kept(files, len(asyncio.all_tasks()), len(gc.get_objects()), process.memory_info().rss)
            if before is None or (now.files <= before.files and now.tasks <= before.tasks) or time.monotonic() > end:
                return now
            await asyncio.sleep(0.1)

    def judge(self, before: Kept, seen: list[Kept]) -> None:
        """Files and tasks exactly; memory by what the later half of the rounds added to the earlier, since the first
        rounds fill what is remembered and what the allocator keeps."""
        for each in seen:
            assert each.files <= before.files, f"{each.files - before.files} more files are open"
            assert each.tasks <= before.tasks, f"{each.tasks - before.tasks} more tasks are left"
        half = len(seen) // 2
        objects = min(each.objects for each in seen[half:]) - max(each.objects for each in seen[:half])
        assert objects < MOST_OBJECTS, f"{objects} more objects in the later rounds than in the earlier"
        growth = min(each.memory for each in seen[half:]) - max(each.memory for each in seen[:half])
        assert growth < MOST_GROWTH, f"{growth} more bytes in the later rounds than in the earlier"

    async def volley(self, ways: tuple[Callable[[], Awaitable[None]], ...], seconds: float) -> None:
        end = time.monotonic() + seconds

        async def throw() -> None:
            while time.monotonic() < end:
                way = self.chance.choice(ways)
                self.thrown[way.__name__] += 1
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                    async with asyncio.timeout(5):
                        await way()

        await asyncio.gather(*(throw() for _ in range(TOGETHER)))

    async def good_peer(self) -> None:
        """The server still answers who may ask."""
        hello = await self.front.client(self.port).hello(self.back.node_id)
        assert hello.name == self.back.name

    async def raw(self) -> None:
        """Bytes on the socket that are no TLS, or begin like it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = self.chance.randbytes(self.chance.randrange(0, 3000))
        if self.chance.random() < 0.5:
            data = struct.pack(">BHH", 22, 0x0301, len(data) or 1) + data
        writer.write(data)
        await self._end(reader, writer)

    async def other_shop(self) -> None:
        """A device of another shop, or without a certificate."""
        if self.chance.random() < 0.5:
            context = client_context(self.stranger.store, check_node=False)
        else:
            context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self._talk(context, self._request(self.stranger))

    async def http_garbage(self) -> None:
        """A device of the shop that speaks no HTTP."""
        data = self.chance.randbytes(self.chance.randrange(0, 5000))
        if self.chance.random() < 0.5:
            data = self._mangle(self._request(self.front))
        await self._talk(self._trusted(), data)

    async def requests(self) -> None:
        """Requests that are HTTP, for paths with methods and headers that do not fit."""
        await self._talk(self._trusted(), self._request(self.front), counted=True)

    async def mangled(self) -> None:
        """Messages with a few bytes changed, where they belong."""
        paths = ("/v1/offers", "/v1/pulls", "/v1/compare", "/v1/compare/ranges", "/v1/compare/rows", "/v1/peers")
        place = self.chance.randrange(len(paths))
        body = self._mangle(self.messages[place])
        await self._talk(self._trusted(), self._head("POST", paths[place], len(body)) + body, counted=True)

    async def upload(self) -> None:
        """A bundle that is offered properly, and whose bytes are wrong."""
        context, offer = self._trusted(), self.messages[0]
        answer = await self._talk(context, self._head("POST", "/v1/offers", len(offer)) + offer)
        at = answer.find(b"t-")
        if at < 0:
            return
        body = self._mangle(self.bundle)
        extra = {http.OFFSET_HEADER: str(self.chance.choice((0, 0, 0, 7, 10**20))), "Content-Type": http.UPLOAD_TYPE}
        head = self._head("PATCH", f"/v1/uploads/{answer[at : at + 34].decode('ascii', 'replace')}", len(body), extra)
        await self._talk(context, head + body, counted=True)

    def _trusted(self) -> ssl.SSLContext:
        return client_context(self.front.store)

    def _request(self, laptop: Laptop) -> bytes:
        body = self.chance.randbytes(self.chance.choice((0, 0, 10, 4000)))
        extra = {
            name: self.chance.choice(("", "0", "-1", "bytes=5-", "bytes=-", "9" * 30, "\x7f", "x" * 9000))
            for name in self.chance.sample(
                ("Range", "If-Range", "Upload-Offset", "Expect", "Transfer-Encoding", "Content-Encoding", "Host"), 2
            )
        }
        if self.chance.random() < 0.2:
            extra[http.NODE_HEADER] = self.chance.choice(("", "node-x", self.back.node_id, "y" * 500))
        length = len(body) if self.chance.random() < 0.8 else self.chance.choice((0, 5, 10**12))
        return self._head(self.chance.choice(METHODS), self.chance.choice(PATHS), length, extra, laptop) + body

    def _head(
        self, method: str, path: str, length: int, extra: dict[str, str] | None = None, laptop: Laptop | None = None
    ) -> bytes:
        headers = {
            "Host": server_name(self.back.node_id),
            http.NODE_HEADER: (laptop or self.front).node_id,
            "Content-Length": str(length),
            "Connection": "close",
            **(extra or {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")

    def _mangle(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.chance.randrange(1, 4)):
            place = self.chance.randrange(len(changed) + 1)
            match self.chance.randrange(4):
                case 0 if place < len(changed):
                    changed[place] = self.chance.randrange(256)
                case 1:
                    changed[place:place] = self.chance.randbytes(self.chance.randrange(1, 9))
                case 2:
                    del changed[place : place + self.chance.randrange(1, 50)]
                case _:
                    changed = changed[: max(1, place)]
        return bytes(changed)

    async def _talk(self, context: ssl.SSLContext, data: bytes, *, counted: bool = False) -> bytes:
        """Send over TLS and read what comes; a refusal that came whole is counted: it must be in the server's log."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=server_name(self.back.node_id)
        )
        writer.write(data)
        answer = await self._end(reader, writer)
        status = answer.split(b" ", 2)[1:2]
        if counted and status and status[0].isdigit() and int(status[0]) >= 400 and b"application/msgpack" in answer:
            self.refused += 1
        return answer

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        answer = b""
        try:
            await writer.drain()
            async with asyncio.timeout(self.chance.choice((0.05, 0.5, 2.0))):
                while data := await reader.read(65536):
                    answer += data
        except TimeoutError:
            pass
        finally:
            writer.transport.abort()
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        thrown = asyncio.run(Fuzz(Path(folder), random.Random(seed)).run(options.seconds))
    print(f"held: {dict(thrown)}")


if __name__ == "__main__":
    main()
