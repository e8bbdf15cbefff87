"""Handing a bundle over: offer, upload from where the peer has it, wait for the signed receipt (PEER.md, "Pushing")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from agent.growing import Growing, Unfinished
from agent.log import get_logger
from agent.peers import http
from agent.peers.delta import BaseFile, pieces_while_readable
from agent.peers.directory import Directory
from agent.peers.errors import BadAnswer, Interrupted, PeerError, Refused
from agent.peers.link import Link
from agent.peers.pace import Meter, Throttle
from agent.peers.patience import Patience
from agent.reading import Opener, Unreadable, plainly, size_of
from certs.errors import TrustError
from certs.identity import verify_signature
from protocol.base import Base
from protocol.delta import TELLING
from protocol.errors import MessageError
from protocol.manifest import Manifest
from protocol.messages import MAX_BASES, Offer, OfferAnswer, Problem, Progress, Receipt, SignedReceipt
from protocol.reader import BundleReader

log = get_logger(__name__)

T = TypeVar("T")

Tell = Callable[[str, int, int, str], None]
"""Told of progress: phase (``sending`` counts bytes, the peer's own phases count rows), done, total, a sentence."""

PIECE = 256 << 10
STEP_SECONDS = 1.0
_GUESS, _GUESS_ROW = 1 << 20, 64
"""How many bytes a bundle that is still being made is thought to have, and for each of its rows."""
_GROWN_SECONDS = 0.1
GOODBYE_SECONDS = 2.0
_ANEW = ("unknown-transfer", "wrong-offset", "not-receiving", "stopping", "too-slow", "damaged-part")
_NO_SPACE = "disk-full"
_NO_DELTA = ("no-base", "bad-delta", "frame-damaged", "decompression-bomb", "malformed")
"""What the receiver says to a delta that does not give it the bundle: then the bundle is sent whole."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """How a push ended: the receipt, checked and in the signed form to keep, the bytes sent over the network, and those
    of the bundle."""

    receipt: Receipt
    signed: SignedReceipt
    sent: int
    size: int


def silent(_phase: str, _done: int, _total: int, _text: str) -> None:
    """A ``Tell`` that nobody listens to."""


def read_manifest(path: Path, opener: Opener = plainly) -> Manifest:
    """The manifest at the start of a bundle file. Blocking. Raises ``BundleError``."""
    reader = BundleReader()
    with opener(path) as file:
        while data := file.read(64 << 10):
            reader.feed(data)
            if reader.manifest is not None:
                return reader.manifest
    reader.close()
    raise BadAnswer(f"{path.name} has no manifest.")


def open_receipt(signed: SignedReceipt, node_id: str, bundle_id: str) -> Receipt:
    """The receipt, once its signature is proven to be that device's and it is about that bundle; else ``BadAnswer``."""
    try:
        signer = verify_signature(signed.certificate, signed.signature, signed.signed_part())
        receipt = Receipt.decode(signed.body)
    except (TrustError, MessageError) as error:
        raise BadAnswer(f"The receipt of the other laptop does not hold: {error}") from error
    if signer != node_id or receipt.receiver_node != node_id or receipt.bundle_id != bundle_id:
        raise BadAnswer("The receipt is of another laptop or about another bundle.")
    return receipt


def _passing(error: PeerError) -> PeerError:
    """``Interrupted`` for refusals that only say that the peer was started anew or lost the thread."""
    if isinstance(error, Refused) and error.code in _ANEW:
        return Interrupted(str(error))
    return error


class Push:
    """One bundle file on its way to one device; ``run`` once.

    One that is still ``growing`` is sent as it grows: what is offered is a guess at its size then, and it is offered
    again once that is known (PEER.md, "Pushing").
    """

    def __init__(
        self,
        directory: Directory,
        node_id: str,
        path: Path,
        *,
        mode: Literal["newer", "bundle", "local", "store"] = "newer",
        tell: Tell = silent,
        throttle: Throttle | None = None,
        dropped: asyncio.Event | None = None,
        space_seconds: float | None = None,
        opener: Opener = plainly,
        bases: Sequence[BaseFile] = (),
        growing: Growing | None = None,
    ) -> None:
        self._opener = opener if growing is None else growing.open
        self._growing = growing
        # Reading it may have to wait for whoever makes it, who needs the threads that all share.
        self._thread = ThreadPoolExecutor(1, "push") if growing is not None else None
        self._bases = {base.bundle_id: base for base in bases[:MAX_BASES]}
        self._space_seconds = directory.limits.space_seconds if space_seconds is None else space_seconds
        self._throttle = throttle or Throttle(None)
        self._dropped = dropped
        self._meter = Meter()
        self._waiting_since: float | None = None
        self._directory = directory
        self._limits = directory.limits
        self._node_id = node_id
        self._path = path
        self._mode = mode
        self._tell = tell
        self._patience = Patience(directory.limits)
        self._sent = 0
        self._reached = -1

    async def run(self) -> Pushed:
        """Push until the receipt is here. Raises ``PeerError``."""
        try:
            return await self._run()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> Pushed:
        manifest = await self._in_thread(read_manifest, self._path, self._opener)
        encoded = await asyncio.to_thread(manifest.encode)
        while True:
            try:
                link = await self._directory.connect(self._node_id)
                try:
                    signed = None
                    while signed is None:
                        size, known = await self._size(manifest)
                        offer = Offer(encoded, size, None, self._mode, tuple(self._bases), TELLING)
                        signed = await self._once(link, offer, wanted=known)
                finally:
                    await link.close()
            except PeerError as error:
                if isinstance(error, Refused) and self._growing is not None and not self._growing.complete:
                    # Asked again once the whole of it is known.
                    await self._grown()
                elif self._bases and isinstance(error, Refused) and error.code in _NO_DELTA:
                    log.info("no delta", reason=str(error))
                    self._bases = {}
                elif not await self._wait_for_space(error):
                    await self._patience.pause(_passing(error), self._tell)
                continue
            receipt = await asyncio.to_thread(open_receipt, signed, self._node_id, manifest.bundle_id)
            return Pushed(receipt, signed, self._sent, size)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _size(self, manifest: Manifest) -> tuple[int, bool]:
        """How many bytes the bundle has, and whether that is so or a guess, more than there are now."""
        growing = self._growing
        if growing is None:
            return await asyncio.to_thread(size_of, self._path, self._opener), True
        if growing.complete:
            return growing.size, True
        return max(_GUESS + manifest.total_rows * _GUESS_ROW, 2 * growing.size), False

    @property
    def _unmade(self) -> bool:
        return self._growing is not None and self._growing.failed

    async def _grown(self) -> None:
        """Wait until the bundle is made."""
        assert self._growing is not None
        while not self._growing.complete:
            if self._unmade:
                raise Unfinished("The bundle could not be made.")
            await asyncio.sleep(_GROWN_SECONDS)

    async def _once(self, link: Link, offer: Offer, *, wanted: bool) -> SignedReceipt | None:
        """Offer, and send what the peer lacks. The receipt if it is ``wanted``; else None, once all was sent."""
        answer = await link.read(OfferAnswer.decode, "POST", "/v1/offers", message=offer)
        self._note(answer.offset)
        if answer.status == "done" and answer.receipt is not None:
            return answer.receipt
        if answer.status == "refuse" or answer.status == "done":
            raise Refused(answer.problem or Problem("refused", f"{link.who} refused the bundle.", ""))
        if answer.offset > offer.size:
            raise BadAnswer(f"{link.who} says that it has more bytes than there are.")
        try:
            if answer.offset < offer.size:
                base = await self._open(self._bases.get(answer.base))
                await self._upload(link, answer.transfer_id, answer.offset, offer.size, base, guessed=not wanted)
            return await self._receipt(link, answer.transfer_id) if wanted else None
        except asyncio.CancelledError:
            await self._say_goodbye(link, answer.transfer_id)
            raise
        except PeerError:
            if self._unmade:
                await self._say_goodbye(link, answer.transfer_id)
                raise Unfinished("The bundle could not be made.") from None
            raise

    async def _say_goodbye(self, link: Link, transfer: str) -> None:
        """Tell the receiver that no more comes: for now, or for good where ``dropped`` is set. A moment's work, done
        to its end: who gives a bundle up ends its push, too, which may be here already."""
        telling = asyncio.ensure_future(self._tell_goodbye(link, transfer))
        try:
            await asyncio.shield(telling)
        except asyncio.CancelledError:
            await asyncio.wait({telling})
            raise

    async def _tell_goodbye(self, link: Link, transfer: str) -> None:
        for_good = self._unmade or (self._dropped is not None and self._dropped.is_set())
        try:
            path = f"/v1/uploads/{transfer}" + ("" if for_good else "?keep=1")
            await link.call("DELETE", path, seconds=GOODBYE_SECONDS)
        except PeerError as error:
            log.info("the receiver was not told", reason=str(error))

    async def _wait_for_space(self, error: PeerError) -> bool:
        """Whether ``error`` is that the receiver's disk is full, and was waited for a moment."""
        if not isinstance(error, Refused) or error.code != _NO_SPACE:
            self._waiting_since = None
            return False
        now = asyncio.get_running_loop().time()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        if now - self._waiting_since >= self._space_seconds:
            raise error
        self._tell("no-space", 0, 0, f"{error} {error.hint}")
        log.info("waiting for space", reason=str(error))
        await asyncio.sleep(self._limits.space_pause)
        return True

    def _note(self, offset: int) -> None:
        """An answered offer is progress the first time, and then only if the peer has more bytes than before."""
        if offset > self._reached:
            self._reached = offset
            self._patience.moved()

    async def _open(self, base: BaseFile | None) -> tuple[BinaryIO, Base] | None:
        """The earlier bundle that the receiver has, too; None where there is none or it cannot be read."""
        if base is None:
            return None
        try:
            return await asyncio.to_thread(base.open)
        except Unreadable as error:
            log.info("no delta", base=base.bundle_id, reason=str(error))
            return None

    async def _upload(
        self, link: Link, transfer: str, offset: int, size: int, base: tuple[BinaryIO, Base] | None, *, guessed: bool
    ) -> None:
        """Send the bytes from ``offset`` on, or the delta that tells them; ``base`` is closed here. Of ``guessed`` size
        are those that a bundle has when it is complete, but fewer than that.
        """
        headers = {http.OFFSET_HEADER: str(offset), "Content-Type": http.DELTA_TYPE if base else http.UPLOAD_TYPE}
        if base is None and not guessed:
            headers["Content-Length"] = str(size - offset)
        moved = [asyncio.get_running_loop().time()]
        self._meter.note(offset)

        async def body(parts: Iterator[tuple[bytes, int]]) -> AsyncIterator[bytes]:
            while (part := await self._in_thread(next, parts, None)) is not None:
                data, position = part
                if guessed and position >= size:
                    return  # it is longer than was thought: offered anew, it goes on from here
                await self._throttle.spend(len(data))
                yield data
                self._sent += len(data)
                moved[0] = asyncio.get_running_loop().time()
                self._meter.note(position)
                self._tell("sending", position, size, self._meter.words(size))

        async def send(file: BinaryIO) -> None:
            plain = partial(self._plain, file)
            parts = plain(offset) if base is None else pieces_while_readable(file, base[1], offset, plain)
            async with link.request("PATCH", f"/v1/uploads/{transfer}", data=body(parts), headers=headers):
                pass

        async with AsyncExitStack() as opened:
            if base is not None:
                opened.push_async_callback(asyncio.to_thread, base[0].close)
            self._tell("sending", offset, size, "")
            file = await self._in_thread(self._opener, self._path)
            opened.push_async_callback(asyncio.to_thread, file.close)
            await self._watched(link, asyncio.create_task(send(file)), moved)

    def _plain(self, file: BinaryIO, offset: int) -> Iterator[tuple[bytes, int]]:
        """The bytes themselves, each piece with where in the bundle it ends. Blocking."""
        file.seek(offset)
        while data := file.read(self._throttle.piece(PIECE)):
            offset += len(data)
            yield data, offset

    async def _watched(self, link: Link, task: asyncio.Task[None], moved: list[float]) -> None:
        """Wait for ``task``, but no longer than the idle limit without any byte moving."""
        loop = asyncio.get_running_loop()
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=STEP_SECONDS)
                link.require_member()
                if not task.done() and loop.time() - moved[0] > self._limits.idle_seconds:
                    raise Interrupted(f"{link.who} took no bytes for {self._limits.idle_seconds:g} seconds.")
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _receipt(self, link: Link, transfer: str) -> SignedReceipt:
        """Ask how far the peer is until it is done."""
        loop = asyncio.get_running_loop()
        last, since = None, loop.time()
        while True:
            progress = await link.read(Progress.decode, "GET", f"/v1/transfers/{transfer}?wait={STEP_SECONDS:g}")
            if progress.receipt is not None:
                return progress.receipt
            if progress.problem is not None or progress.phase == "failed":
                raise Refused(progress.problem or Problem("failed", f"{link.who} could not use the bundle.", ""))
            if progress.phase == "receiving":
                raise Interrupted(f"{link.who} does not have all bytes yet.")
            self._tell(progress.phase, progress.done, progress.total, progress.text)
            if progress != last:
                last, since = progress, loop.time()
                self._patience.moved()
            elif loop.time() - since > self._limits.work_seconds:
                raise Interrupted(f"{link.who} has not got any further for {self._limits.work_seconds:g} seconds.")
