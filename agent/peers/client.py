"""What this laptop asks of others, in one place: push, pull, businesses, comparison, roster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from agent.growing import Growing
from agent.log import get_logger
from agent.peers import http
from agent.peers.delta import BaseFile
from agent.peers.directory import Directory
from agent.peers.errors import BadAnswer, NotTrusted, Refused
from agent.peers.limits import MAX_ROSTER_BYTES
from agent.peers.link import Link
from agent.peers.pace import Throttle
from agent.peers.push import Push, Pushed, Tell, silent
from agent.reading import Opener, plainly
from certs.errors import RosterConflict, RosterRollback, TrustError
from certs.roster import Roster
from protocol.errors import MessageError
from protocol.manifest import Manifest
from protocol.messages import Hello, Message
from protocol.requests import (
    BusinessItem,
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
    from agent.peers.fetch import Fetched
    from agent.peers.handler import Part

log = get_logger(__name__)

T = TypeVar("T")

EXCHANGES = 3
"""How often rosters are exchanged over one link until both sides have the same."""


class PeerClient:
    """Talks to the devices of the shop by node ID; ``directory`` finds them. Every method raises ``PeerError``."""

    def __init__(self, directory: Directory, throttle: Throttle | None = None) -> None:
        self.directory = directory
        self._throttle = throttle

    async def hello(self, node_id: str) -> Hello:
        """Whether the device is there, and what it says about itself."""
        return await self.directory.hello(node_id)

    async def push(
        self,
        node_id: str,
        path: Path,
        *,
        mode: Literal["newer", "bundle", "local", "store"] = "newer",
        tell: Tell = silent,
        dropped: asyncio.Event | None = None,
        space_seconds: float | None = None,
        opener: Opener = plainly,
        bases: Sequence[BaseFile] = (),
        growing: Growing | None = None,
    ) -> Pushed:
        """Hand the bundle file over and return the receipt; a broken upload goes on where the peer has it.

        Cancelled, it tells the peer: to keep what came for the next time, or to drop it where ``dropped`` is set.
        ``opener`` reads the file. ``bases`` are earlier bundles, the best first: what travels is a delta against the
        first of them that the peer has, too. A peer without space is waited for as long as ``space_seconds`` (None: as
        limited). A file that is still ``growing`` is sent as it grows.

        A receipt with outcome ``refused`` or ``failed`` is returned as well: it is the peer's word.
        """
        push = Push(
            self.directory,
            node_id,
            path,
            mode=mode,
            tell=tell,
            throttle=self._throttle,
            dropped=dropped,
            space_seconds=space_seconds,
            opener=opener,
            bases=bases,
            growing=growing,
        )
        return await push.run()

    async def pull(
        self,
        node_id: str,
        request: PullRequest,
        part_for: Callable[[str, int], Part],
        *,
        accept: Callable[[Manifest], None] | None = None,
        tell: Tell = silent,
    ) -> Fetched:
        """Have a bundle made and fetch it into ``part_for(bundle_id, size)``; the caller closes the part."""
        from agent.peers.fetch import Fetch  # only here: a push starts without what receives

        return await Fetch(self.directory, node_id, request, part_for, accept=accept, tell=tell).run()

    async def businesses(self, node_id: str) -> tuple[BusinessItem, ...]:
        """The businesses in the device's database."""
        link = await self.directory.connect(node_id)
        try:
            listed = await link.read(BusinessList.decode, "GET", "/v1/businesses")
        finally:
            await link.close()
        return listed.businesses

    async def mark(self, node_id: str) -> TableMark | None:
        """The mark of the device's tables; None where it cannot tell (an older Backroom, a database that is away)."""
        link = await self.directory.connect(node_id)
        try:
            return await link.read(TableMark.decode, "GET", "/v1/mark")
        except Refused as error:
            log.debug("no mark", node=node_id, reason=str(error))
            return None
        finally:
            await link.close()

    async def table_digests(self, node_id: str, request: CompareRequest) -> list[TableDigest]:
        """The device's digests of all tables in the scope of a business."""
        return [digest async for digest in self._stream(node_id, "/v1/compare", request, TableDigest.decode)]

    async def range_digests(self, node_id: str, request: RangeRequest) -> RangeDigests:
        """The device's digests of the ranges of one table."""
        found = [ranges async for ranges in self._stream(node_id, "/v1/compare/ranges", request, RangeDigests.decode)]
        if len(found) != 1:
            raise BadAnswer("The other laptop answered a question for range digests in parts.")
        return found[0]

    async def schema(self, node_id: str) -> SchemaAnswer:
        """The tables of the device that may travel, with their columns' types."""
        link = await self.directory.connect(node_id)
        try:
            return await link.read(SchemaAnswer.decode, "GET", "/v1/schema")
        finally:
            await link.close()

    async def row_hashes(self, node_id: str, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        """The device's row hashes of one table, as they come."""
        async for hashes in self._stream(node_id, "/v1/compare/rows", request, RowHashes.decode):
            yield hashes

    async def exchange_roster(self, node_id: str) -> Roster:
        """Give the device this laptop's roster and take its own; both end with the one returned, the higher version.

        Raises ``NotTrusted`` where they do not: the two are by different authorities, or of one version.
        """
        link = await self.directory.connect(node_id)
        try:
            return await self._exchange_roster(link, agreed=True)
        finally:
            await link.close()

    async def meet(self, node_id: str, own: Whereabouts) -> None:
        """Exchange rosters, and with a device that is still trusted then, where others are: over one connection."""
        link = await self.directory.connect(node_id)
        try:
            if (await self._exchange_roster(link)).trusts(node_id):
                theirs = await link.read(Whereabouts.decode, "POST", "/v1/peers", message=own)
                self.directory.hear(theirs.nodes)
        finally:
            await link.close()

    async def _exchange_roster(self, link: Link, *, agreed: bool = False) -> Roster:
        """Again where the roster here has changed meanwhile: the store signs a higher one where theirs needs that."""
        store = self.directory.store
        for left in reversed(range(EXCHANGES)):
            own = await asyncio.to_thread(store.signed_roster)
            theirs = await _given(link, own.encode())
            try:
                return await asyncio.to_thread(store.save_roster, theirs)
            except RosterRollback as error:
                version = (await asyncio.to_thread(store.roster)).version
                if version == own.roster.version or not left:
                    if agreed:
                        raise NotTrusted.of(error) from error
                    break
                log.warning("roster signed anew", version=version, before=own.roster.version, reason=str(error))
            except TrustError as error:
                raise NotTrusted.of(error) from error
        return store.roster()

    async def _stream(
        self, node_id: str, path: str, request: Message, decode: Callable[[bytes], T]
    ) -> AsyncIterator[T]:
        link = await self.directory.connect(node_id)
        try:
            async with link.request("POST", path, data=request.encode()) as response:
                try:
                    async for payload in http.read_stream(response.content, self.directory.limits.idle_seconds):
                        yield decode(payload)
                except (TimeoutError, asyncio.IncompleteReadError) as error:
                    raise link.translate(error) from error
                except MessageError as error:
                    raise BadAnswer(f"{link.who} sent an answer that cannot be read: {error}") from error
        finally:
            await link.close()


async def _given(link: Link, roster: bytes) -> bytes:
    """Give the peer a roster; the one that it holds then, also where the two conflict."""
    try:
        return await link.call("POST", "/v1/roster", roster, limit=MAX_ROSTER_BYTES)
    except Refused as error:
        if error.code != RosterConflict.code:
            raise
        return await link.call("GET", "/v1/roster", limit=MAX_ROSTER_BYTES)
