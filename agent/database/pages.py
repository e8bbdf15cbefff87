"""Large tables in parts, by where their rows lie: several connections can read one table, and what became of its rows
can be told of each part alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified
from agent.tables.schema import Schema

PAGES_TO_READ, PAGES_TO_KNOW = 2048, 512
"""In parts of so many pages two connections share a table with least work. They are smaller where each part is known
afterwards: what changes costs all of its part."""
# Before this version a condition on ctid is a scan of the whole table.
_RANGE_SCANS = (14,)
_NO_PAGE = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large tables are on the disk. ``bytes`` is of all of them with what is stored beside them; ``pages`` of each
    that can be read in parts: a partitioned one has none of its own.
    """

    bytes: int
    pages: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a table on its pages from ``first`` on, before page ``end``; None: to the end of the table, wherever
    that will be."""

    first: int
    end: int | None

    def holds(self, alias: str) -> str:
        """The condition that the row ``alias`` is in it."""
        bounds = [f"{alias}.ctid >= '({self.first},0)'"] if self.first else []
        bounds += [f"{alias}.ctid < '({self.end},0)'"] if self.end is not None else []
        return " AND ".join(bounds) or "true"

    @property
    def bounds(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first address in it and the first behind it."""
        return (self.first, 0), (_NO_PAGE if self.end is None else self.end, 0)


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


def parts(pages: int, size: int) -> list[Part]:
    """A table of so many pages in parts of ``size`` pages, in the order in which a scan of the whole would give their
    rows. A small table is one part, and so is what is little at the end.
    """
    starts = [*range(size, pages - size // 2, size)]
    return [Part(first, end) for first, end in zip([0, *starts], [*starts, None], strict=True)]
