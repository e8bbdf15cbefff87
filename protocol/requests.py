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

COARSE_RANGES, FINE_RANGES = 64, 4096
"""Into how many ranges the keys of a table are divided, by hash; a coarse one holds 64 fine ones."""
MAX_SESSION = 64
MAX_NODES, MAX_PLACES = 500, 8
MAX_SCHEMA_BYTES = 4 << 20

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
class TableMark(Message):
    """A sign of what the tables that travel have been through: opaque. Equal ``counts`` in one ``epoch`` mean that no
    row changed; an empty epoch that nobody can tell."""

    epoch: str
    counts: str

    @classmethod
    def decode(cls, data: bytes) -> TableMark:
        with Fields.read(data, "mark of the tables", 1 << 10) as f:
            return cls(f.text("epoch"), f.text("counts"))


@dataclass(frozen=True, slots=True)
class Whereabouts(Message):
    """Where devices of the shop are, as far as the sender knows: by node ID, addresses as ``HOST:PORT``, best first."""

    nodes: Mapping[str, tuple[str, ...]]

    @classmethod
    def decode(cls, data: bytes) -> Whereabouts:
        with Fields.read(data, "list of addresses") as f:
            return cls(f.mapping("nodes", MAX_NODES, _places))


@dataclass(frozen=True, slots=True)
class SchemaAnswer(Message):
    """The tables of a peer's database that may travel: by table, the types of its columns (PostgreSQL's text)."""

    tables: Mapping[str, Mapping[str, str]]

    @classmethod
    def decode(cls, data: bytes) -> SchemaAnswer:
        with Fields.read(data, "answer about the schema", MAX_SCHEMA_BYTES) as f:
            return cls(f.mapping("tables", MAX_TABLES, _types))


@dataclass(frozen=True, slots=True)
class CompareRequest(Message):
    """Digest the rows of a business; ``columns`` names for each table which ones, in which order (all if absent).

    ``numbers`` are those of them whose scale does not count. Requests with the same ``session`` (a text that the asker
    makes up; "" for none) are about one moment, as long as they follow each other.
    """

    business: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    session: str = ""

    @classmethod
    def decode(cls, data: bytes) -> CompareRequest:
        with Fields.read(data, "comparison request") as f:
            return cls(
                business=f.text("business"),
                columns=f.mapping("columns", MAX_TABLES, _names),
                numbers=f.mapping("numbers", MAX_TABLES, _names),
                session=f.text("session", MAX_SESSION),
            )


@dataclass(frozen=True, slots=True)
class TableDigest(Message):
    """The rows of one table in scope as a count and a digest over ``columns`` in that order, with their ``types``."""

    table: str
    rows: int
    digest: bytes
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]

    @classmethod
    def decode(cls, data: bytes) -> TableDigest:
        with Fields.read(data, "table digest") as f:
            digest = cls(
                table=f.text("table"),
                rows=f.number("rows"),
                digest=f.data("digest", 64),
                columns=f.items("columns", MAX_COLUMNS, as_text),
                types=f.items("types", MAX_COLUMNS, _type),
                key=f.items("key", MAX_COLUMNS, as_text),
            )
        if len(digest.columns) != len(digest.types):
            raise MessageError(f"A table digest has {len(digest.columns)} columns but {len(digest.types)} types.")
        return digest


@dataclass(frozen=True, slots=True)
class RangeRequest(Message):
    """Digest one table of a business by ranges of its keys' hashes.

    ``within`` names coarse ranges (0 to 63) whose fine ranges (64 each) are wanted; none: the coarse ones themselves.
    """

    business: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    within: tuple[int, ...] = ()
    session: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RangeRequest:
        with Fields.read(data, "request for range digests") as f:
            return cls(
                business=f.text("business"),
                table=f.text("table"),
                columns=f.items("columns", MAX_COLUMNS, as_text),
                key=f.items("key", MAX_COLUMNS, as_text),
                numbers=f.items("numbers", MAX_COLUMNS, as_text),
                within=f.items("within", COARSE_RANGES, _coarse),
                session=f.text("session", MAX_SESSION),
            )


@dataclass(frozen=True, slots=True)
class RangeDigests(Message):
    """The ranges that have rows: their numbers, how many rows, and their digests, by place in the three lists."""

    places: tuple[int, ...]
    rows: tuple[int, ...]
    digests: tuple[bytes, ...]

    @classmethod
    def decode(cls, data: bytes) -> RangeDigests:
        with Fields.read(data, "range digests") as f:
            found = cls(
                f.items("places", FINE_RANGES, _fine), f.numbers("rows", FINE_RANGES), f.items("digests", 4096, _hash)
            )
        if not len(found.places) == len(set(found.places)) == len(found.rows) == len(found.digests):
            raise MessageError("Range digests came with lists of different lengths, or with a range twice.")
        return found


@dataclass(frozen=True, slots=True)
class RowHashRequest(Message):
    """Hash each row of one table in the scope of a business, over ``columns`` in that order, keyed by ``key``.

    ``ranges``: only the rows in these fine ranges (all, if none is named). With ``keys`` the question is another: which
    of these rows the business itself has or needs; the answer has no hashes then. It ends the session.
    """

    business: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    ranges: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    session: str = ""

    @classmethod
    def decode(cls, data: bytes) -> RowHashRequest:
        with Fields.read(data, "request for row hashes") as f:
            return cls(
                business=f.text("business"),
                table=f.text("table"),
                columns=f.items("columns", MAX_COLUMNS, as_text),
                key=f.items("key", MAX_COLUMNS, as_text),
                numbers=f.items("numbers", MAX_COLUMNS, as_text),
                ranges=f.items("ranges", FINE_RANGES, _fine),
                keys=f.items("keys", MAX_ROW_HASHES, _key),
                session=f.text("session", MAX_SESSION),
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


def _places(value: object) -> tuple[str, ...]:
    return Fields({"places": value}, "list of addresses").items("places", MAX_PLACES, as_text)


def _types(value: object) -> dict[str, str]:
    return Fields({"types": value}, "map of columns").mapping("types", MAX_COLUMNS, _type)


def _type(value: object) -> str:
    return Fields({"type": value}, "column").text("type", 400)


def _coarse(value: object) -> int:
    return Fields({"range": value}, "coarse range").number("range", COARSE_RANGES - 1)


def _fine(value: object) -> int:
    return Fields({"range": value}, "range").number("range", FINE_RANGES - 1)
