"""Digests of rows, to prove that two laptops hold the same without moving the rows (DESIGN section 5, compare).

A row's digest is the MD5 of its text under the pinned settings, so it is the same on every PostgreSQL version; a
table's is the sum of its rows' digests, so no order matters. MD5 guards against chance here, not against forgery:
what arrives in a bundle is guarded by the bundle's own seal.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from agent.database.names import quote
from agent.database.transaction import Connection

RANGES = 4096
_RANGE_DIGITS = 3
_CHUNK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to look at: a FROM clause (with WHERE where needed) whose row is ``t``. ``text`` where all its columns are
    text (staged without their types)."""

    clause: str
    text: bool = False


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows, and the sum of their digests."""

    rows: int
    sum: str


@dataclass(frozen=True, slots=True)
class Question:
    """What to digest of one table: ``columns`` in an order that both sides use, ``key`` telling rows apart (() where
    nothing does), ``numbers`` the columns whose scale does not count, since their types differ between the sides."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    numbers: tuple[str, ...] = ()


async def table_digest(connection: Connection, rows: Rows, question: Question) -> Digest:
    """The digest of all rows."""
    row = await connection.fetchrow(
        f"SELECT {_SUMS} FROM (SELECT {_content(question, rows)} AS digest FROM {rows.clause} {_ONCE}) hashed"
    )
    return Digest(row["rows"], row["sum"])


async def range_digests(connection: Connection, rows: Rows, question: Question) -> dict[int, Digest]:
    """The digests of the rows in each of :data:`RANGES` ranges, by hash of the key; empty ranges are left out."""
    found = await connection.fetch(
        f"SELECT place, {_SUMS} FROM (SELECT {_place(question, rows)} AS place, {_content(question, rows)} AS digest "
        f"FROM {rows.clause} {_ONCE}) hashed GROUP BY place"
    )
    return {row["place"]: Digest(row["rows"], row["sum"]) for row in found}


async def row_digests(
    connection: Connection, rows: Rows, question: Question, ranges: Iterable[int] | None = None
) -> AsyncGenerator[tuple[str, str], None]:
    """Key (as text) and digest of each row in these ranges (None: in all). Without a key: the digest and how many
    rows have it."""
    content = _content(question, rows)
    chosen = f"SELECT {_key(question, rows)} AS key, {content} AS digest, {_place(question, rows)} AS place"
    which = "true" if ranges is None else f"place IN ({', '.join(str(int(place)) for place in ranges) or 'NULL'})"
    inner = f"SELECT key, digest FROM ({chosen} FROM {rows.clause}) hashed WHERE {which}"
    sql = inner if question.key else f"SELECT digest AS key, count(*)::text AS digest FROM ({inner}) each GROUP BY 1"
    async for row in connection.cursor(sql, prefetch=_CHUNK_ROWS):
        yield row["key"], row["digest"]


async def existing_keys(connection: Connection, rows: Rows, question: Question, keys: Sequence[str]) -> frozenset[str]:
    """Which of these keys (as :func:`row_digests` gave them) are among the rows."""
    found = await connection.fetch(
        f"SELECT DISTINCT key FROM (SELECT {_key(question, rows)} AS key FROM {rows.clause}) keyed "
        "WHERE key = ANY($1::text[])",
        list(keys),
    )
    return frozenset(row["key"] for row in found)


_SUMS = (
    "count(*) AS rows, "
    "coalesce(sum(('x' || left(digest, 16))::bit(64)::bigint), 0)::text || ':' || "
    "coalesce(sum(('x' || right(digest, 16))::bit(64)::bigint), 0)::text AS sum"
)
# Without it the planner merges the queries, and makes the text and the digest of each row once for each half.
_ONCE = "OFFSET 0"


def _content(question: Question, rows: Rows) -> str:
    return f"md5({_row([_value(name, question, rows) for name in question.columns])})"


def _key(question: Question, rows: Rows) -> str:
    if not question.key:
        return _content(question, rows)
    return _row([_value(name, question, rows) for name in question.key])


def _place(question: Question, rows: Rows) -> str:
    return f"('x' || left(md5({_key(question, rows)}), {_RANGE_DIGITS}))::bit({4 * _RANGE_DIGITS})::integer"


def _row(values: Sequence[str]) -> str:
    return f"ROW({', '.join(values)})::text"


def _value(name: str, question: Question, rows: Rows) -> str:
    column = f"t.{quote(name)}"
    if name not in question.numbers:
        return column
    return f"trim_scale({column}{'::numeric' if rows.text else ''})"
