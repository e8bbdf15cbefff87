"""What devices say to each other about trust: renewals, a shared authority, and backups held for another device.

The same rules as for ``protocol.messages`` (protocol/PEER.md): frozen values, strict decoding, ``MessageError``. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from protocol.message_codec import MAX_TEXT, Fields
from protocol.messages import MAX_BUNDLE_BYTES, Message

MAX_CERTIFICATE = 16 << 10
MAX_SEALED = 64 << 10
MAX_BACKUPS = 2_000


@dataclass(frozen=True, slots=True)
class RenewalAnswer(Message):
    """``renewed``: the certificate (DER). ``waiting``: an admin has to say yes first; ask again later."""

    status: Literal["renewed", "waiting"]
    certificate: bytes = b""
    text: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RenewalAnswer:
        with Fields.read(data, "answer to a renewal", 64 << 10) as f:
            return cls(
                status=cast(Literal["renewed", "waiting"], f.choice("status", ("renewed", "waiting"))),
                certificate=f.data("certificate", MAX_CERTIFICATE),
                text=f.text("text", MAX_TEXT),
            )


@dataclass(frozen=True, slots=True)
class SharedAuthority(Message):
    """The key of the shop's authority for another admin, sealed with a passphrase (an age file)."""

    sealed: bytes

    @classmethod
    def decode(cls, data: bytes) -> SharedAuthority:
        with Fields.read(data, "shared authority", 2 * MAX_SEALED) as f:
            return cls(f.data("sealed", MAX_SEALED))


@dataclass(frozen=True, slots=True)
class BackupItem(Message):
    """One bundle that a laptop holds. ``kind`` is the bundle's, ``size`` in bytes."""

    bundle_id: str
    kind: str
    source_node: str
    created: datetime
    size: int
    rows: int
    business: str | None = None
    business_name: str | None = None

    @classmethod
    def of(cls, value: object) -> BackupItem:
        with Fields(value, "backup") as f:
            return cls(
                bundle_id=f.text("bundle_id"),
                kind=f.choice("kind", ("business-specific", "full", "full-device")),
                source_node=f.text("source_node"),
                created=f.moment("created"),
                size=f.number("size", MAX_BUNDLE_BYTES),
                rows=f.number("rows"),
                business=f.maybe_text("business"),
                business_name=f.maybe_text("business_name", MAX_TEXT),
            )


@dataclass(frozen=True, slots=True)
class BackupList(Message):
    """The bundles made by one device that the answering laptop holds, newest first."""

    backups: tuple[BackupItem, ...]

    @classmethod
    def decode(cls, data: bytes) -> BackupList:
        with Fields.read(data, "list of backups") as f:
            return cls(f.items("backups", MAX_BACKUPS, BackupItem.of))
