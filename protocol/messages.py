"""What peers say to each other besides bundles: greetings, offers, progress, receipts (protocol/PEER.md).

Every message is a frozen dataclass with ``encode() -> bytes`` and ``decode(bytes)``; ``decode`` raises ``MessageError``
for anything that PEER.md does not allow. Times travel as microseconds since 1970 UTC, sizes in bytes. Pure.
Pulls, businesses and comparisons are in ``protocol.requests``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

from protocol.message_codec import MAX_MESSAGE_BYTES, MAX_NAME, MAX_TEXT, Fields, as_count, as_counts, as_text, pack

PROTOCOL_VERSION = 1
"""Version of PEER.md that this code speaks; it is also the ``/v1/`` of the paths."""
MAX_MANIFEST_BYTES = 8 << 20
"""Bound on the manifest in an offer, the same as FORMAT.md's."""
MAX_BUNDLE_BYTES = 1 << 42
"""Bound on a bundle's declared size (4 TiB); a receiver has its own, lower one."""
MAX_TABLES = 10_000
MAX_BASES = 16
"""Bound on the earlier bundles in one offer."""
MAX_CLONES = 100
"""Bound on the clone alarms in one hello."""
RECEIPT_CONTEXT = b"backroom receipt v1\x00"
"""What the signature of a receipt covers before its body, so that no other signed bytes can pass for a receipt."""

OfferStatus = Literal["accept", "ask", "refuse", "done"]
Phase = Literal["receiving", "checking", "queued", "waiting", "applying", "done", "failed"]
Outcome = Literal["applied", "stored", "refused", "failed"]
_PHASES = ("receiving", "checking", "queued", "waiting", "applying", "done", "failed")


class Message:
    """Base: how every message becomes bytes."""

    __slots__ = ()

    def encode(self) -> bytes:
        """This message as canonical msgpack."""
        return pack(self)


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Who answers at an address. ``time`` is the answerer's clock; ``versions`` are the protocol versions it speaks.

    ``instance`` tells copies of a device apart; ``clones`` are the standing clone alarms, by node ID the number of
    alarms about it that were settled before.
    """

    node_id: str
    name: str
    software: str
    platform: str
    versions: tuple[int, ...]
    roster_version: int
    time: datetime
    instance: str = ""
    clones: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        # Not closed with ``end``: a hello is how two versions find out about each other, so a newer one may say more.
        f = Fields.read(data, "hello", 64 << 10)
        return cls(
            node_id=f.text("node_id"),
            name=f.text("name"),
            software=f.text("software"),
            platform=f.text("platform"),
            versions=f.numbers("versions", 100),
            roster_version=f.number("roster_version"),
            time=f.moment("time"),
            instance=f.text("instance"),
            clones=f.mapping("clones", MAX_CLONES, as_count),
        )


@dataclass(frozen=True, slots=True)
class Problem(Message):
    """Why a request was refused or failed: the body of every answer that is not a success."""

    code: str
    message: str
    hint: str

    @classmethod
    def decode(cls, data: bytes) -> Problem:
        with Fields.read(data, "refusal", 64 << 10) as f:
            return cls(f.text("code"), f.text("message", MAX_TEXT), f.text("hint", MAX_TEXT))

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """What to tell a peer about ``error``, whose ``code`` and ``hint`` are taken if it has them."""
        code, hint = getattr(error, "code", "internal"), getattr(error, "hint", "")
        return cls(str(code)[:MAX_NAME], str(error)[:MAX_TEXT], str(hint)[:MAX_TEXT])

    @classmethod
    def maybe(cls, value: object) -> Problem | None:
        """A problem inside another message, or None for nil."""
        if value is None:
            return None
        with Fields(value, "refusal") as f:
            return cls(f.text("code"), f.text("message", MAX_TEXT), f.text("hint", MAX_TEXT))


@dataclass(frozen=True, slots=True)
class SignedReceipt(Message):
    """The bytes of a ``Receipt`` with the receiver's certificate (DER) and signature over ``signed_part()``."""

    body: bytes
    certificate: bytes
    signature: bytes

    def signed_part(self) -> bytes:
        """The bytes that the signature covers."""
        return RECEIPT_CONTEXT + self.body

    @classmethod
    def decode(cls, data: bytes) -> SignedReceipt:
        return cls._of(Fields.read(data, "receipt"))

    @classmethod
    def maybe(cls, value: object) -> SignedReceipt | None:
        """A receipt inside another message, or None for nil."""
        return None if value is None else cls._of(Fields(value, "receipt"))

    @classmethod
    def _of(cls, f: Fields) -> SignedReceipt:
        with f:
            return cls(f.data("body", MAX_MESSAGE_BYTES), f.data("certificate", 16 << 10), f.data("signature", 512))


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """The receiver's word on what it did with a bundle.

    ``tables`` holds per table the counts by what happened (``inserted``, ``updated``, ...), ``totals`` their sums.
    """

    bundle_id: str
    receiver_node: str
    receiver_name: str
    outcome: Outcome
    tables: Mapping[str, Mapping[str, int]]
    totals: Mapping[str, int]
    message: str
    at: datetime

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        with Fields.read(data, "receipt") as f:
            return cls(
                bundle_id=f.text("bundle_id"),
                receiver_node=f.text("receiver_node"),
                receiver_name=f.text("receiver_name"),
                outcome=cast(Outcome, f.choice("outcome", ("applied", "stored", "refused", "failed"))),
                tables=f.mapping("tables", MAX_TABLES, as_counts),
                totals=f.mapping("totals", 100, as_count),
                message=f.text("message", MAX_TEXT),
                at=f.moment("at"),
            )

    def sign(self, certificate: bytes, sign: Callable[[bytes], bytes]) -> SignedReceipt:
        """This receipt signed by the receiver's key."""
        body = self.encode()
        return SignedReceipt(body, certificate, sign(RECEIPT_CONTEXT + body))


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """A bundle that the sender wants to hand over: its manifest as FORMAT.md writes it, and its size in bytes.

    ``bases`` are the IDs of earlier bundles on which it could build a delta, the best first, and ``packing``
    is how it packs frames and tells deltas (``protocol.delta.TELLING``).
    """

    manifest: bytes
    size: int
    sha256: bytes | None = None
    mode: Literal["newer", "bundle", "local", "store"] = "newer"
    bases: tuple[str, ...] = ()
    packing: str = ""

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        with Fields.read(data, "offer", MAX_MANIFEST_BYTES + MAX_MESSAGE_BYTES) as f:
            return cls(
                manifest=f.data("manifest", MAX_MANIFEST_BYTES),
                size=f.number("size", MAX_BUNDLE_BYTES),
                sha256=f.maybe_data("sha256", 32),
                mode=cast(
                    Literal["newer", "bundle", "local", "store"],
                    f.choice("mode", ("newer", "bundle", "local", "store")),
                ),
                bases=f.items("bases", MAX_BASES, as_text),
                packing=f.text("packing"),
            )


@dataclass(frozen=True, slots=True)
class OfferAnswer(Message):
    """``accept``: send from ``offset``. ``ask``: the same, and a person decides. ``refuse``: why. ``done``: receipt.

    ``base`` is the one of the offer's bases that is there, too, else empty.
    """

    status: OfferStatus
    transfer_id: str = ""
    offset: int = 0
    problem: Problem | None = None
    receipt: SignedReceipt | None = None
    base: str = ""

    @classmethod
    def decode(cls, data: bytes) -> OfferAnswer:
        with Fields.read(data, "answer to an offer", 2 * MAX_MESSAGE_BYTES) as f:
            return cls(
                status=cast(OfferStatus, f.choice("status", ("accept", "ask", "refuse", "done"))),
                transfer_id=f.text("transfer_id"),
                offset=f.number("offset", MAX_BUNDLE_BYTES),
                problem=f.maybe("problem", Problem.maybe),
                receipt=f.maybe("receipt", SignedReceipt.maybe),
                base=f.text("base"),
            )


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """How far a transfer is: bytes received of its size, then rows done of those to do."""

    transfer_id: str
    phase: Phase
    offset: int = 0
    size: int = 0
    done: int = 0
    total: int = 0
    text: str = ""
    problem: Problem | None = None
    receipt: SignedReceipt | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ("done", "failed")

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        with Fields.read(data, "progress", 2 * MAX_MESSAGE_BYTES) as f:
            return cls(
                transfer_id=f.text("transfer_id"),
                phase=cast(Phase, f.choice("phase", _PHASES)),
                offset=f.number("offset", MAX_BUNDLE_BYTES),
                size=f.number("size", MAX_BUNDLE_BYTES),
                done=f.number("done"),
                total=f.number("total"),
                text=f.text("text", MAX_TEXT),
                problem=f.maybe("problem", Problem.maybe),
                receipt=f.maybe("receipt", SignedReceipt.maybe),
            )
