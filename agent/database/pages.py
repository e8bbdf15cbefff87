"""Large tables in parts, by where their rows lie, so that several connections can read one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified
from agent.tables.schema import Schema

PAGES_OF_A_PART = 2048
# Before this version a condition on ctid is a scan of the whole table.
_RANGE_SCANS = (14,)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large tables are on the disk. ``bytes`` is of all of them with what is stored beside them; ``pages`` of each
    that can be read in parts: a partitioned one has none of its own.
    """

    bytes: int
    pages: Mapping[str, int]


async def sizes(connection: asyncpg.Connection, schema: Schema, tables: Sequence[str]) -> Sizes:
    """The sizes of these tables, in one round trip."""
    rows = await connection.fetch(
        "SELECT name, pg_table_size(relation::regclass) AS bytes, "
        "pg_relation_size(relation::regclass) / current_setting('block_size')::int AS pages "
        "FROM unnest($1::text[], $2::text[]) AS asked (name, relation)",
        tables,
        [qualified(schema.tables[name]) for name in tables],
    )
    parts = connection.get_server_version() >= _RANGE_SCANS
    return Sizes(sum(row["bytes"] for row in rows), {row["name"]: row["pages"] for row in rows if parts})


def parts(pages: int, alias: str) -> list[str]:
    """Conditions on the row ``alias`` that tell each row of a table of so many pages to one part, in the order in which
    a scan of the whole would give them. A small table is one part.
    """
    starts = range(PAGES_OF_A_PART, pages - PAGES_OF_A_PART // 2, PAGES_OF_A_PART)
    after = [None, *starts]
    before = [*starts, None]
    found = []
    for first, last in zip(after, before, strict=True):
        bounds = [f"{alias}.ctid >= '({first},0)'"] if first is not None else []
        bounds += [f"{alias}.ctid < '({last},0)'"] if last is not None else []
        found.append(" AND ".join(bounds) or "true")
    return found
