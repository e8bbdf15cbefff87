"""What a peer may ask of another: to make a backup, to list its businesses, to digest one (protocol/PEER.md).

The same rules as for ``protocol.messages``: frozen values, strict decoding, ``MessageError`` for everything else. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from protocol.errors import MessageError
from protocol.message_codec import MAX_TEXT, Fields, as_text
from protocol.messages import MAX_BUNDLE_BYTES, MAX_TABLES, Message, Problem

MAX_COLUMNS = 1_600
MAX_ROW_HASHES = 2_000
"""Rows in one ``RowHashes``."""

PullKind = Literal["business-specific", "full", "full-device"]
PullStatus = Literal["preparing", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class PullRequest(Message):
    """Please make this backup for me. ``bundle_id`` names one that an earlier answer promised, to go on with it."""

    kind: PullKind
    business: str | None = None
    include_demo: bool = False
    compress: bool = True
    bundle_id: str | None = None

    @classmethod
    def decode(cls, data: bytes) -> PullRequest:
        with Fields.read(data, "pull request", 64 << 10) as f:
            kinds = ("business-specific", "full", "full-device")
            return cls(
                kind=cast(PullKind, f.choice("kind", kinds)),
                business=f.maybe_text("business"),
                include_demo=f.flag("include_demo"),
                compress=f.flag("compress"),
                bundle_id=f.maybe_text("bundle_id"),
            )


@dataclass(frozen=True, slots=True)
class PullAnswer(Message):
    """How far the backup asked for is; once ``ready`` it can be fetched by its ``bundle_id``."""

    transfer_id: str
    status: PullStatus
    done: int = 0
    total: int = 0
    text: str = ""
    bundle_id: str = ""
    size: int = 0
    etag: str = ""
    problem: Problem | None = None

    @classmethod
    def decode(cls, data: bytes) -> PullAnswer:
        with Fields.read(data, "answer to a pull request", 64 << 10) as f:
            return cls(
                transfer_id=f.text("transfer_id"),
                status=cast(PullStatus, f.choice("status", ("preparing", "ready", "failed"))),
                done=f.number("done"),
                total=f.number("total"),
                text=f.text("text", MAX_TEXT),
                bundle_id=f.text("bundle_id"),
                size=f.number("size", MAX_BUNDLE_BYTES),
                etag=f.text("etag"),
                problem=f.maybe("problem", Problem.maybe),
            )


@dataclass(frozen=True, slots=True)
class BusinessItem(Message):
    """One business of a peer's database."""

    id: str
    name: str
    slug: str | None = None
    demo: bool = False

    @classmethod
    def of(cls, value: object) -> BusinessItem:
        with Fields(value, "business") as f:
            return cls(f.text("id"), f.text("name", MAX_TEXT), f.maybe_text("slug", MAX_TEXT), f.flag("demo"))


@dataclass(frozen=True, slots=True)
class BusinessList(Message):
    """All businesses that the asking peer may see."""

    businesses: tuple[BusinessItem, ...]

    @classmethod
    def decode(cls, data: bytes) -> BusinessList:
        with Fields.read(data, "list of businesses") as f:
            return cls(f.items("businesses", 10_000, BusinessItem.of))


@dataclass(frozen=True, slots=True)
class CompareRequest(Message):
    """Digest the rows of a business; ``columns`` names for each table which ones, in which order (all if absent)."""

    business: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> CompareRequest:
        with Fields.read(data, "comparison request") as f:
            return cls(f.text("business"), f.mapping("columns", MAX_TABLES, _names))


@dataclass(frozen=True, slots=True)
class TableDigest(Message):
    """The rows of one table in scope as a count and a digest over ``columns`` in that order."""

    table: str
    rows: int
    digest: bytes
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def decode(cls, data: bytes) -> TableDigest:
        with Fields.read(data, "table digest") as f:
            return cls(
                table=f.text("table"),
                rows=f.number("rows"),
                digest=f.data("digest", 64),
                columns=f.items("columns", MAX_COLUMNS, as_text),
                key=f.items("key", MAX_COLUMNS, as_text),
            )


@dataclass(frozen=True, slots=True)
class RowHashRequest(Message):
    """Hash each row of one table in the scope of a business, over ``columns`` in that order, keyed by ``key``."""

    business: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def decode(cls, data: bytes) -> RowHashRequest:
        with Fields.read(data, "request for row hashes") as f:
            return cls(
                business=f.text("business"),
                table=f.text("table"),
                columns=f.items("columns", MAX_COLUMNS, as_text),
                key=f.items("key", MAX_COLUMNS, as_text),
            )


@dataclass(frozen=True, slots=True)
class RowHashes(Message):
    """Some rows: their keys (PostgreSQL text of the key columns, as one JSON text) and one hash each, pairwise."""

    keys: tuple[str, ...]
    hashes: tuple[bytes, ...]

    @classmethod
    def decode(cls, data: bytes) -> RowHashes:
        with Fields.read(data, "row hashes") as f:
            keys, hashes = f.items("keys", MAX_ROW_HASHES, _key), f.items("hashes", MAX_ROW_HASHES, _hash)
        if len(keys) != len(hashes):
            raise MessageError(f"Row hashes came with {len(keys)} keys but {len(hashes)} hashes.")
        return cls(keys, hashes)


def _names(value: object) -> tuple[str, ...]:
    return Fields({"names": value}, "list of columns").items("names", MAX_COLUMNS, as_text)


def _key(value: object) -> str:
    return Fields({"key": value}, "row key").text("key", 8_000)


def _hash(value: object) -> bytes:
    return Fields({"hash": value}, "row hash").data("hash", 64)
