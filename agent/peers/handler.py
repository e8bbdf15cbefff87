"""What the peer server needs done, as interfaces: the layers above plug in the engine, the archive and the history."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from agent.peers.delta import BaseFile
from agent.reading import Opener, plainly
from certs.roster import NO_LIMITS, Limits, Member, Role
from protocol.delta import News
from protocol.manifest import Manifest
from protocol.messages import Phase, Problem, SignedReceipt
from protocol.places import Packed
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
from protocol.seal import Seal

Report = Callable[[Phase, int, int, str], None]
"""Tells how far long work is: phase, done, total (rows; 0 where unknown), and a sentence or nothing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The device behind a request, as its certificate and the roster say, and where it connected from."""

    node_id: str
    name: str
    role: Role
    address: str
    limits: Limits = NO_LIMITS
    replaces: str | None = None

    @property
    def admin(self) -> bool:
        """Whether it may pull full and full-device backups."""
        return self.role is Role.ADMIN

    @classmethod
    def of(cls, member: Member, address: str) -> Peer:
        """The peer that a roster entry describes."""
        return cls(member.node_id, member.name, member.role, address, member.limits, member.replaces)


class Part(Protocol):
    """A file that arrives in pieces and survives interruptions; ``agent.archive.incoming.Incoming`` is one.

    Entered, ``offset`` is how many bytes are there. Leaving keeps them for later; ``discard`` throws them away, and
    with them what ``remember`` keeps beside them.
    """

    path: Path
    offset: int
    size: int

    async def __aenter__(self) -> Part: ...
    async def close(self) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def sync(self) -> None: ...
    async def remember(self, what: bytes) -> None: ...
    async def memory(self) -> bytes | None: ...
    def read(self, *, start: int = 0) -> AsyncGenerator[bytes, None]: ...
    async def discard(self) -> None: ...


@dataclass(frozen=True, slots=True)
class IncomingOffer:
    """A bundle that a peer wants to hand over. ``size`` is in bytes; ``bases`` are IDs of bundles on which the peer
    can build a delta, the best first."""

    transfer_id: str
    manifest: Manifest
    size: int
    sha256: bytes | None
    mode: Literal["newer", "bundle", "local", "store"]
    bases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """What was found out of a bundle while it came: its seal, which holds, the node that signed it, where its frames
    lie (:mod:`protocol.places`), and what frames of a delta have that its base lacks."""

    seal: Seal
    signer: str
    places: Packed | None = None
    news: News | None = None


@dataclass(frozen=True, slots=True)
class Accept:
    """Yes: it goes into ``part``, which is not entered yet. ``ask``: a person decides before it is applied.

    ``base`` is the one of the offered bundles that is here, too.
    """

    part: Part
    ask: bool = False
    base: BaseFile | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, and why."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Done:
    """This bundle was dealt with before; here is the receipt of then."""

    receipt: SignedReceipt


Decision = Accept | Refuse | Done


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle that lies ready to be fetched, ``size`` bytes as ``opener`` reads it. ``release`` is called once nobody
    fetches it any more."""

    path: Path
    bundle_id: str
    size: int
    release: Callable[[], None] | None = None
    opener: Opener = plainly


class Handler(Protocol):
    """The work behind the peer server.

    Every method may refuse by raising an exception that has ``code`` and ``hint``: the peer is told code, sentence
    and hint. Any other exception is logged and told as ``internal``. The caller has been checked against the roster.
    """

    async def offer(self, peer: Peer, offer: IncomingOffer) -> Decision:
        """Decide on an offer from its manifest alone. The same offer comes again after each interruption."""
        ...

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        """Deal with a bundle that is complete, whose chain and seal hold, and whose manifest is the offered one.

        Without ``arrived`` it came with an interruption. What came before that was checked when it came, not again: the
        file must be verified as a whole before it is used. A ``BundleError`` then means that the disk has damaged it,
        and it is fetched again.

        Whatever it ends with (applied, stored, refused, failed), the receipt is kept, so that ``offer`` can answer
        ``Done``. ``part`` is closed afterwards; it must be promoted or discarded unless it shall be tried again.
        """
        ...

    async def stopped(self, peer: Peer, offer: IncomingOffer, *, cancelled: bool) -> None:
        """A bundle comes no further: its sender has stopped for now, or it was ``cancelled`` here or there for good.

        The offer of a bundle that was cancelled is refused from then on.
        """
        ...

    async def prepare_pull(self, peer: Peer, request: PullRequest, report: Report) -> Prepared:
        """Make the bundle asked for, or find the one that ``request.bundle_id`` names. Full kinds: admins only."""
        ...

    async def businesses(self, peer: Peer) -> BusinessList:
        """The businesses that this peer may see."""
        ...

    async def mark(self, peer: Peer) -> TableMark:
        """The mark of the tables that travel: whether any row changed, and nothing of what."""
        ...

    def table_digests(self, peer: Peer, request: CompareRequest) -> AsyncIterator[TableDigest]:
        """The digest of each table in the scope of a business."""
        ...

    async def range_digests(self, peer: Peer, request: RangeRequest) -> RangeDigests:
        """The digests of ranges of one table in that scope."""
        ...

    async def whereabouts(self, peer: Peer, theirs: Whereabouts) -> Whereabouts:
        """Take what the peer knows of where devices are, and say what this laptop knows."""
        ...

    async def schema(self, peer: Peer) -> SchemaAnswer:
        """The tables that may travel, with their columns' types."""
        ...

    def row_hashes(self, peer: Peer, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        """Key and hash of each row of one table in that scope, some at a time, ordered by key."""
        ...
