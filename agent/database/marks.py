"""A cheap sign of whether rows changed: what the server itself counts of every table, without a row being read.

Two marks of the same epoch with the same counts mean that nothing committed between them. Other counts mean that
something may have: what was rolled back, a vacuum that rewrote a table and rows of any business count too. The epoch is
another one where the server lost its counts (a crash, a reset), and empty where it cannot be trusted to count.

A server counts what a connection did when that falls idle, at the latest ten seconds later (PostgreSQL 15 and newer;
older ones may keep it for as long as the connection is idle, so they are not believed). A mark that is to stand for
rows as they are read must therefore be read *before* them: what comes late only makes it differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import asyncpg

from protocol.requests import TableMark

_OLDEST = 150000
_EPOCH = """
SELECT current_setting('server_version_num')::int >= $1 AND current_setting('track_counts') = 'on'
       AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE c LIKE 'track_counts=%') AS counts,
       concat_ws(' ', d.oid, s.stats_reset, (SELECT stats_reset FROM pg_stat_bgwriter)) AS epoch
FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database()
"""
# A table that was emptied by TRUNCATE or rewritten has another file; one that got a column has more attributes.
_COUNTS = """
SELECT concat_ws(' ', c.oid, c.relfilenode, c.relnatts, pg_stat_get_tuples_inserted(c.oid),
                 pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_deleted(c.oid)) AS line
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND NOT c.relname = ANY($1::text[])
ORDER BY c.oid
"""


async def read_mark(connection: asyncpg.Connection, apart: Collection[str]) -> TableMark:
    """The mark of all tables but those named ``apart``; a table that came since counts."""
    told = await connection.fetchrow(_EPOCH, _OLDEST)
    if told is None or not told["counts"]:
        return TableMark("", "")
    lines = "\n".join(row["line"] for row in await connection.fetch(_COUNTS, list(apart)))
    return TableMark(_short(told["epoch"]), _short(lines))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
