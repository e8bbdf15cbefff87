"""Bundles that peers fetch from here: made on request, then served with ``Range`` (PEER.md, "Pulling")."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.errors import RequestError
from agent.peers.handler import Handler, Peer, Prepared
from agent.peers.limits import ServerLimits
from agent.peers.pace import Throttle
from certs.errors import TrustError
from protocol.messages import Phase, Problem
from protocol.requests import PullAnswer, PullRequest

log = get_logger(__name__)

PIECE = 256 << 10
LONGEST_WAIT = 1.0
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")


@dataclass(slots=True, eq=False)
class Pull:
    """One bundle that a peer asked for."""

    peer: Peer
    request: PullRequest
    answer: PullAnswer
    touched: float
    prepared: Prepared | None = None
    serving: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Pulls:
    """All pulls of this server, and the routes that serve them. ``check`` raises for a peer that may not go on."""

    def __init__(
        self, handler: Handler, limits: ServerLimits, check: Callable[[web.Request], Peer], throttle: Throttle
    ) -> None:
        self._handler = handler
        self._throttle = throttle
        self._limits = limits
        self._check = check
        self._pulls: dict[str, Pull] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [
            web.post("/v1/pulls", self._ask),
            web.get("/v1/pulls/{transfer}", self._poll, allow_head=False),
            web.get("/v1/bundles/{bundle}", self._bundle, allow_head=False),
        ]

    async def close(self) -> None:
        """Stop preparing and let go of what is prepared."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pull in self._pulls.values():
            _release(pull)
        self._pulls.clear()

    async def _ask(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        data = await http.read_body(request, 64 << 10, self._limits.idle_seconds)
        wanted = PullRequest.decode(data)
        replacing = peer.replaces is not None and wanted.bundle_id is not None
        if wanted.kind != "business-specific" and not (peer.admin or replacing):
            raise RequestError(
                403,
                "admin-only",
                f"Only an admin may pull a {wanted.kind} backup; {peer.name} is a member.",
                hint="Do this on an admin laptop, or pull one business.",
            )
        if wanted.kind == "business-specific" and not wanted.business and not wanted.bundle_id:
            raise RequestError(400, "bad-request", "A pull of one business must name it.")
        self._make_room(peer)
        name = "p-" + secrets.token_hex(16)
        pull = Pull(peer, wanted, PullAnswer(name, "preparing"), _now())
        self._pulls[name] = pull
        task = asyncio.create_task(self._prepare(pull))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        log.info("pull asked", peer=peer.name, kind=wanted.kind, business=wanted.business)
        return http.answer(pull.answer, 202)

    async def _prepare(self, pull: Pull) -> None:
        def tell(_phase: Phase, done: int, total: int, text: str) -> None:
            pull.answer = replace(pull.answer, done=max(0, done), total=max(0, total), text=text[:1000])

        try:
            prepared = await self._handler.prepare_pull(pull.peer, pull.request, tell)
            pull.prepared = prepared
            pull.answer = replace(
                pull.answer,
                status="ready",
                bundle_id=prepared.bundle_id,
                size=prepared.size,
                etag=f'"{prepared.bundle_id}"',
            )
            log.info("pull ready", peer=pull.peer.name, bundle=prepared.bundle_id, size=prepared.size)
        except Exception as error:
            known = hasattr(error, "code")
            problem = Problem.of(error if known else http.internal_error())
            pull.answer = replace(pull.answer, status="failed", problem=problem)
            log.warning("pull failed", peer=pull.peer.name, reason=str(error), exc_info=None if known else error)
        finally:
            pull.touched = _now()
            pull.ended.set()

    async def _poll(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        pull = self._pulls.get(request.match_info["transfer"])
        if pull is None or pull.peer.node_id != peer.node_id:
            raise RequestError(404, "unknown-transfer", "This laptop knows no such pull.", hint="Ask for it again.")
        pull.touched = _now()
        if not pull.ended.is_set() and "wait" in request.query:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_WAIT):
                    await pull.ended.wait()
        return http.answer(pull.answer)

    async def _bundle(self, request: web.Request) -> web.StreamResponse:
        peer = self._check(request)
        pull, prepared = self._prepared(peer, request.match_info["bundle"])
        pull.touched = _now()
        etag = f'"{prepared.bundle_id}"'
        start, end, status = _wanted(request, prepared.size, etag)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-store",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{prepared.size}"
        response = web.StreamResponse(status=status, headers=headers)
        pull.serving += 1
        try:
            await self._send(request, response, prepared, start, end)
        finally:
            pull.serving -= 1
            pull.touched = _now()
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, prepared: Prepared, start: int, end: int
    ) -> None:
        file = await asyncio.to_thread(prepared.opener, prepared.path)
        try:
            await asyncio.to_thread(file.seek, start)
            await response.prepare(request)
            position = start
            while position < end:
                data = await asyncio.to_thread(file.read, min(self._throttle.piece(PIECE), end - position))
                if not data:
                    raise RequestError(500, "cut-short", "The bundle on this laptop is shorter than it was.")
                self._check(request)
                await self._throttle.spend(len(data))
                async with asyncio.timeout(self._limits.idle_seconds):
                    await response.write(data)
                position += len(data)
            await response.write_eof()
        except (RequestError, TrustError) as error:
            if not response.prepared:
                raise
            log.warning("sending stopped", peer=request.remote, reason=str(error))
            raise ConnectionResetError("The rest of the bundle is not sent.") from error
        finally:
            await asyncio.to_thread(file.close)

    def _prepared(self, peer: Peer, bundle_id: str) -> tuple[Pull, Prepared]:
        for pull in self._pulls.values():
            if pull.prepared and pull.prepared.bundle_id == bundle_id and pull.peer.node_id == peer.node_id:
                return pull, pull.prepared
        raise RequestError(404, "unknown-bundle", "This bundle is not ready to be fetched.", hint="Ask for it again.")

    def _make_room(self, peer: Peer) -> None:
        now = _now()
        for name, pull in list(self._pulls.items()):
            idle = now - pull.touched
            if pull.ended.is_set() and not pull.serving and idle > self._limits.remembered_seconds:
                _release(self._pulls.pop(name))
        mine = sum(1 for pull in self._pulls.values() if pull.peer.node_id == peer.node_id and not pull.ended.is_set())
        if mine >= self._limits.pulls_per_peer:
            raise RequestError(429, "too-many-pulls", "This laptop is preparing too many backups for yours already.")


def _wanted(request: web.Request, size: int, etag: str) -> tuple[int, int, int]:
    """Start, end (exclusive) and status for the request's ``Range`` and ``If-Range`` (RFC 9110, 13.1.5 and 14.2)."""
    text = request.headers.get("Range")
    if text is None or request.headers.get("If-Range", etag) != etag:
        return 0, size, 200
    match = _RANGE.fullmatch(text)
    if match is None:
        return 0, size, 200
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    if start >= size or end <= start:
        raise RequestError(416, "bad-range", f"The bundle has {size} bytes; {text!r} is not in it.")
    return start, end, 206


def _release(pull: Pull) -> None:
    if pull.prepared is not None and pull.prepared.release is not None:
        pull.prepared.release()


def _now() -> float:
    return asyncio.get_running_loop().time()
