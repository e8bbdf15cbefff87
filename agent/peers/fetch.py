"""Getting a bundle from a peer: ask for it, wait until it is made, download it with ``Range`` (PEER.md, "Pulling")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.log import get_logger
from agent.peers.directory import Directory
from agent.peers.errors import BadAnswer, Interrupted, PeerError, Refused
from agent.peers.handler import Part
from agent.peers.link import Link
from agent.peers.patience import Patience
from agent.peers.push import Tell, silent
from agent.peers.receive import PIECE, Receiver
from protocol.errors import BundleError
from protocol.manifest import Manifest
from protocol.messages import Problem
from protocol.requests import PullAnswer, PullRequest

if TYPE_CHECKING:
    from aiohttp import StreamReader

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A bundle that is here, whole, with its chain and seal checked.

    ``part`` is entered: the caller promotes (or discards) and closes it. ``received`` counts bytes over the network.
    """

    manifest: Manifest
    part: Part
    size: int
    received: int


class Fetch:
    """One bundle on its way here; ``run`` once.

    ``part_for(bundle_id, size)`` gives the file to write to. ``accept`` may refuse the manifest by raising, before any
    row is fetched.
    """

    def __init__(
        self,
        directory: Directory,
        node_id: str,
        request: PullRequest,
        part_for: Callable[[str, int], Part],
        *,
        accept: Callable[[Manifest], None] | None = None,
        tell: Tell = silent,
    ) -> None:
        self._directory = directory
        self._limits = directory.limits
        self._node_id = node_id
        self._request = request
        self._part_for = part_for
        self._accept = accept
        self._tell = tell
        self._patience = Patience(directory.limits)
        self._receiver: Receiver | None = None
        self._answer: PullAnswer | None = None
        self._bundle = ""
        self._received = 0

    async def run(self) -> Fetched:
        """Fetch until it is here. Raises ``PeerError``, ``BundleError``, and what ``part`` and ``accept`` raise."""
        try:
            while True:
                try:
                    link = await self._directory.connect(self._node_id)
                    try:
                        return await self._once(link)
                    finally:
                        await link.close()
                except PeerError as error:
                    await self._patience.pause(error, self._tell)
        except BaseException:
            if self._receiver is not None:
                await self._receiver.close()
            raise

    async def _once(self, link: Link) -> Fetched:
        if self._answer is None:
            self._answer = await self._prepare(link)
        receiver = await self._open(self._answer)
        if not receiver.complete:
            try:
                await self._download(link, self._answer, receiver)
            except Refused as error:
                if error.status != 404:
                    raise
                # The peer was started anew and has forgotten; it may still find the same bundle.
                self._request = replace(self._request, bundle_id=self._answer.bundle_id)
                self._answer = None
                raise Interrupted(f"{link.who} has to prepare the backup again.") from error
        try:
            manifest = await receiver.finish()
        except BundleError as error:
            raise BadAnswer(f"The backup that {link.who} sent is damaged: {error}", hint=error.hint) from error
        return Fetched(manifest, receiver.part, receiver.size, self._received)

    async def _prepare(self, link: Link) -> PullAnswer:
        answer = await link.read(PullAnswer.decode, "POST", "/v1/pulls", message=self._request)
        self._patience.moved()
        loop = asyncio.get_running_loop()
        last, since = answer, loop.time()
        while answer.status == "preparing":
            self._tell("preparing", answer.done, answer.total, answer.text)
            try:
                answer = await link.read(PullAnswer.decode, "GET", f"/v1/pulls/{answer.transfer_id}?wait=1")
            except Refused as error:
                if error.status == 404:
                    raise Interrupted(f"{link.who} was started anew and has to prepare the backup again.") from error
                raise
            if answer != last:
                last, since = answer, loop.time()
            elif loop.time() - since > self._limits.work_seconds:
                raise Interrupted(f"{link.who} has not got any further for {self._limits.work_seconds:g} seconds.")
        if answer.status != "ready":
            raise Refused(answer.problem or Problem("failed", f"{link.who} could not make the backup.", ""))
        return answer

    async def _open(self, answer: PullAnswer) -> Receiver:
        """The receiver for what is announced; one for another bundle than before starts at its beginning."""
        if self._receiver is not None and self._bundle == answer.bundle_id and self._receiver.size == answer.size:
            return self._receiver
        if self._receiver is not None:
            await self._receiver.part.discard()
            await self._receiver.close()
            self._receiver = None
        receiver = Receiver(self._part_for(answer.bundle_id, answer.size), answer.size, accept=self._accept)
        await receiver.open()
        self._receiver, self._bundle = receiver, answer.bundle_id
        return receiver

    async def _download(self, link: Link, answer: PullAnswer, receiver: Receiver) -> None:
        start = receiver.offset
        headers = {"Range": f"bytes={start}-", "If-Range": answer.etag} if start else {}
        async with link.request("GET", f"/v1/bundles/{answer.bundle_id}", headers=headers) as response:
            expected = f"bytes {start}-{answer.size - 1}/{answer.size}"
            if start and (response.status != 206 or response.headers.get("Content-Range") != expected):
                await receiver.part.discard()
                raise BadAnswer(f"{link.who} does not go on with the backup where it was interrupted.")
            buffer = bytearray()
            self._tell("fetching", start, answer.size, "")
            while True:
                data = await self._next(link, response.content)
                link.require_member()
                buffer += data
                self._received += len(data)
                if len(buffer) >= PIECE or (buffer and not data):
                    piece, buffer = bytes(buffer), bytearray()
                    await self._take(link, receiver, piece)
                    self._patience.moved()
                    self._tell("fetching", receiver.offset, answer.size, "")
                if not data:
                    break
        if not receiver.complete:
            raise Interrupted(f"{link.who} stopped sending after {receiver.offset} of {answer.size} bytes.")

    async def _take(self, link: Link, receiver: Receiver, piece: bytes) -> None:
        try:
            await receiver.take(piece)
        except BundleError as error:
            raise BadAnswer(f"The backup that {link.who} sends is damaged: {error}", hint=error.hint) from error

    async def _next(self, link: Link, content: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                return await content.readany()
        except TimeoutError:
            raise Interrupted(f"{link.who} sent no byte for {self._limits.idle_seconds:g} seconds.") from None
