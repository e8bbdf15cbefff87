"""What the peer server asks, from its first moment on. The work itself (``receive``: the database's driver, the engine)
is imported in a thread when the first peer asks for some: most agents of a shop wait most of the time, and cost little.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from agent.archive.history import History
from agent.archive.records import INTERRUPTED
from agent.archive.spool import Spool
from agent.heaps import give_back
from agent.log import get_logger
from agent.operations import requests
from agent.operations.network import whereabouts
from agent.operations.requests import Requests
from agent.operations.rights import require_compare
from agent.operations.workspace import Workspace
from agent.peers.handler import Arrived, Decision, IncomingOffer, Part, Peer, Prepared, Report
from protocol.messages import SignedReceipt
from protocol.requests import (
    BusinessList,
    CompareRequest,
    PullRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    SchemaAnswer,
    TableDigest,
    TableMark,
    Whereabouts,
)

if TYPE_CHECKING:
    from agent.operations.receive import Reception

log = get_logger(__name__)

T = TypeVar("T")

_OPEN = (requests.WAITING, requests.APPROVED, requests.DECLINED)


class Attending:
    """The peer server's handler: answers what needs no database itself, and hands the rest to a ``Reception``."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history
        self._own_node = workspace.store.identity().node_id
        self._reception: Reception | None = None
        self._arriving: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self.hear: Callable[[Mapping[str, Sequence[str]]], None] = lambda _: None
        """Told where peers say that others are."""
        self.met: Callable[[str], None] = lambda _: None
        """Told the node ID of whom this laptop has met, by a meeting that the other one began."""

    async def _work(self) -> Reception:
        async with self._one:
            if self._reception is None:
                receive = await _imported("agent.operations.receive")
                self._reception = receive.Reception(self._workspace, self._history)
                self._arriving = asyncio.create_task(self._reception.arrivals.watch())
            return self._reception

    # What peers ask.

    async def offer(self, peer: Peer, offer: IncomingOffer) -> Decision:
        """As ``Reception`` says, like all below."""
        return await (await self._work()).offer(peer, offer)

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        try:
            return await (await self._work()).apply(peer, offer, part, arrived, report)
        finally:
            asyncio.get_running_loop().run_in_executor(None, give_back)

    async def stopped(self, peer: Peer, offer: IncomingOffer, *, cancelled: bool) -> None:
        await (await self._work()).stopped(peer, offer, cancelled=cancelled)

    async def prepare_pull(self, peer: Peer, request: PullRequest, report: Report) -> Prepared:
        return await (await self._work()).prepare_pull(peer, request, report)

    async def businesses(self, peer: Peer) -> BusinessList:
        return await (await self._work()).businesses(peer)

    async def mark(self, peer: Peer) -> TableMark:
        return await (await self._work()).mark(peer)

    def table_digests(self, peer: Peer, request: CompareRequest) -> AsyncIterator[TableDigest]:
        self._require_compare(peer, request.business)
        return self._passed(lambda reception: reception.table_digests(peer, request))

    async def range_digests(self, peer: Peer, request: RangeRequest) -> RangeDigests:
        return await (await self._work()).range_digests(peer, request)

    def row_hashes(self, peer: Peer, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        self._require_compare(peer, request.business)
        return self._passed(lambda reception: reception.row_hashes(peer, request))

    async def schema(self, peer: Peer) -> SchemaAnswer:
        return await (await self._work()).schema(peer)

    async def whereabouts(self, peer: Peer, theirs: Whereabouts) -> Whereabouts:
        """Take what the peer knows of where devices are, and say what this laptop knows: each meeting asks that."""
        self.hear(theirs.nodes)
        self.met(peer.node_id)
        return await whereabouts(self._workspace)

    def _require_compare(self, peer: Peer, business: str) -> None:
        """Refused before an answer is begun."""
        own = self._workspace.store.roster().require(self._own_node)
        require_compare(peer.name, peer.limits, own.limits, business)

    async def _passed(self, ask: Callable[[Reception], AsyncIterator[T]]) -> AsyncIterator[T]:
        found = ask(await self._work())
        try:
            async for each in found:
                yield each
        finally:
            if isinstance(found, AsyncGenerator):
                await found.aclose()

    # Keeping house.

    async def close(self) -> None:
        """Let go of the database."""
        if self._arriving is not None:
            self._arriving.cancel()
            await asyncio.gather(self._arriving, return_exceptions=True)
        if self._reception is not None:
            await self._reception.close()

    async def go_on(self) -> None:
        """After a start: deal with the pushes that waited for a yes when the agent stopped. Until cancelled."""
        for each in await asyncio.to_thread(Requests(self._workspace.home).all):
            if each.what == "push" and each.state in _OPEN and not each.outcome:
                await (await self._work()).go_on()
                return

    async def tidy(self) -> None:
        """At start: throw away what died half way and is too old to go on with; tell the truth about the rest."""
        await self._history.mark_interrupted()
        cut_off = await self._history.restores(state=INTERRUPTED)
        if any(each.transaction is not None and each.error_code != "settled" for each in cut_off):
            outcomes = await _imported("agent.operations.outcomes")
            await outcomes.settle(self._workspace, self._history)
        removed: list[Path] = await self._workspace.archive.start()
        dropped = await Spool(self._workspace.home).clean()
        if removed or dropped:
            log.info("removed unfinished files", files=len(removed) + len(dropped))


async def _imported(name: str) -> ModuleType:
    """A module, imported while the loop goes on."""
    return await asyncio.to_thread(importlib.import_module, name)
