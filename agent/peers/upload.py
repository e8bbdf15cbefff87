"""One bundle on its way in, from the offer to the receipt."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass, field, replace

from agent.peers import http
from agent.peers.delta import BaseFile
from agent.peers.errors import Cancelled, RequestError
from agent.peers.handler import IncomingOffer, Peer, Report
from agent.peers.pace import Meter
from agent.peers.receive import Receiver
from protocol.delta import News
from protocol.messages import Offer, OfferAnswer, OfferStatus, Phase, Problem, Progress, SignedReceipt


def transfer_id(node_id: str, offer: Offer, bundle_id: str) -> str:
    """The ID of the upload of this very bundle by this very device: the same after any interruption, and whatever is
    known of its size."""
    digest = hashlib.sha256()
    for part in (node_id.encode(), bundle_id.encode(), offer.mode.encode(), offer.manifest):
        digest.update(len(part).to_bytes(8, "big") + part)
    return "t-" + base64.b32encode(digest.digest()[:20]).decode().lower()


@dataclass(frozen=True, slots=True)
class Standing:
    """A bundle on its way in, for people on this laptop. ``rate`` in bytes a second, ``left`` in seconds."""

    peer: Peer
    offer: IncomingOffer
    progress: Progress
    rate: float
    left: float | None


@dataclass(slots=True, eq=False)
class Upload:
    """Where a bundle stands. ``lock`` is held by whoever writes; ``ended`` is set once nothing more will happen.

    ``base`` is the earlier bundle on which deltas may build, ``news`` what was learned from one.
    """

    peer: Peer
    offer: IncomingOffer
    receiver: Receiver
    ask: bool
    touched: float
    base: BaseFile | None = None
    news: News | None = None
    phase: Phase = "receiving"
    done: int = 0
    total: int = 0
    text: str = ""
    problem: Problem | None = None
    receipt: SignedReceipt | None = None
    writing: asyncio.Transport | None = None
    finishing: asyncio.Task[None] | None = None
    cancelled: Cancelled | None = None
    meter: Meter = field(default_factory=Meter)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def resize(self, size: int) -> None:
        """The sender knows better now how many bytes the bundle has. Raises ``RequestError`` if that cannot be."""
        if size == self.offer.size:
            return
        if size < self.receiver.offset:
            raise RequestError(409, "wrong-size", "More of this bundle is here than it is said to have.")
        self.offer = replace(self.offer, size=size)
        self.receiver.resize(size)

    def answer(self, offset: int) -> OfferAnswer:
        """What the sender is told: to go on from there."""
        status: OfferStatus = "ask" if self.ask else "accept"
        base = self.base.bundle_id if self.base is not None else ""
        return OfferAnswer(status, self.offer.transfer_id, offset, base=base)

    def progress(self) -> Progress:
        """Where it stands, for the sender."""
        size = self.offer.size
        return Progress(
            transfer_id=self.offer.transfer_id,
            phase=self.phase,
            offset=self.receiver.offset if self.phase == "receiving" else size,
            size=size,
            done=self.done,
            total=self.total,
            text=self.text[:1000],
            problem=self.problem,
            receipt=self.receipt,
        )

    def standing(self) -> Standing:
        """Where it stands, for this laptop."""
        left = self.meter.left(self.offer.size) if self.phase == "receiving" else None
        return Standing(self.peer, self.offer, self.progress(), self.meter.rate if left is not None else 0.0, left)

    def report(self) -> Report:
        """The function by which the handler tells how far it is."""

        def tell(phase: Phase, done: int, total: int, text: str) -> None:
            self.phase, self.done, self.total, self.text = phase, max(0, done), max(0, total), text

        return tell

    def headers(self) -> dict[str, str]:
        """Where it stands, as headers of an answer."""
        progress = self.progress()
        return {
            http.OFFSET_HEADER: str(progress.offset),
            http.LENGTH_HEADER: str(progress.size),
            http.COMPLETE_HEADER: "?1" if progress.offset == progress.size else "?0",
            "Cache-Control": "no-store",
        }

    def sole_writer(self) -> asyncio.Lock:
        """The lock; a connection that still holds it is cut, since the sender has come back on another."""
        if self.writing is not None:
            self.writing.abort()
        return self.lock
