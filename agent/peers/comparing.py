"""What peers may ask about a business and its tables without getting a row: digests, and the shape of the tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from agent.peers import http
from agent.peers.handler import Handler, Peer
from agent.peers.limits import ServerLimits
from protocol.messages import Message
from protocol.requests import CompareRequest, RangeDigests, RangeRequest, RowHashRequest

MAX_QUESTION = 1 << 20


class Comparing:
    """The routes for them. ``check`` raises for a peer that may not ask."""

    def __init__(self, handler: Handler, limits: ServerLimits, check: Callable[[web.Request], Peer]) -> None:
        self._handler = handler
        self._limits = limits
        self._check = check

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [
            web.get("/v1/schema", self._schema, allow_head=False),
            web.post("/v1/compare", self._compare),
            web.post("/v1/compare/ranges", self._ranges),
            web.post("/v1/compare/rows", self._rows),
        ]

    async def _schema(self, request: web.Request) -> web.Response:
        return http.answer(await self._handler.schema(self._check(request)))

    async def _compare(self, request: web.Request) -> web.StreamResponse:
        peer = self._check(request)
        wanted = await asyncio.to_thread(CompareRequest.decode, await self._read(request))
        return await self._stream(request, self._handler.table_digests(peer, wanted))

    async def _ranges(self, request: web.Request) -> web.StreamResponse:
        peer = self._check(request)
        wanted = RangeRequest.decode(await self._read(request))

        async def one() -> AsyncIterator[RangeDigests]:
            yield await self._handler.range_digests(peer, wanted)

        return await self._stream(request, one())

    async def _rows(self, request: web.Request) -> web.StreamResponse:
        peer = self._check(request)
        wanted = await asyncio.to_thread(RowHashRequest.decode, await self._read(request))
        return await self._stream(request, self._handler.row_hashes(peer, wanted))

    async def _read(self, request: web.Request) -> bytes:
        return await http.read_body(request, MAX_QUESTION, self._limits.idle_seconds)

    async def _stream(self, request: web.Request, items: AsyncIterator[Message]) -> web.StreamResponse:
        return await http.send_stream(request, items, self._limits.idle_seconds)
