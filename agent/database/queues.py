"""Entries of a queue table that tell of rows which a restore replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from agent.database.merge import UPDATES, Merge, Verdict
from agent.database.mirror import Victims, going
from agent.database.names import literal, qualified, quote
from agent.database.reidentify import Rename
from agent.tables.catalogue import Pending
from agent.tables.schema import Table


def updated_ids(merge: Merge) -> str:
    """A query for the ids, as text, of the live rows that a merge gives other content. The table has one key column."""
    chosen = merge.chosen(*UPDATES, Verdict.RAISED)
    return f"SELECT s.{quote(merge.identity[0])}::text FROM {merge.stage.relation} s WHERE {chosen}"


def victim_ids(victims: Victims) -> str:
    """A query for the ids, as text, of rows that go. The table has one key column."""
    return f"SELECT l.{quote(victims.table.identity[0])}::text FROM {going(victims)}"


def renamed_ids(rename: Rename) -> str:
    """A query for the ids, as text, that rows have before they take others."""
    return f"SELECT r.old::text FROM {rename.relation} r"


async def mark_entries(
    connection: asyncpg.Connection, queue: Table, pending: Pending, about: Mapping[tuple[str, ...], Sequence[str]]
) -> int:
    """Mark the entries that wait to tell of these rows, and count them. ``about`` maps a table's names to queries for
    ids."""
    conditions = " OR ".join(
        f"(l.{quote(pending.table)}::text IN ({', '.join(map(literal, names))}) "
        f"AND l.{quote(pending.row)}::text IN ({' UNION ALL '.join(ids)}))"
        for names, ids in about.items()
    )
    await connection.execute(
        f"CREATE TEMP TABLE {quote(_marked(queue))} ON COMMIT DROP AS SELECT l.ctid AS tid "
        f"FROM {qualified(queue)} l WHERE NOT coalesce(l.{quote(pending.done)}, false) AND ({conditions})"
    )
    return int(await connection.fetchval(f"SELECT count(*) FROM pg_temp.{quote(_marked(queue))}"))


def marked_entries(queue: Table) -> str:
    """A FROM clause with the marked live rows ``l``."""
    return f"{qualified(queue)} l JOIN pg_temp.{quote(_marked(queue))} m ON m.tid = l.ctid"


async def delete_marked(connection: asyncpg.Connection, queue: Table) -> int:
    """Delete the marked entries; returns how many."""
    status = await connection.execute(
        f"DELETE FROM {qualified(queue)} l USING pg_temp.{quote(_marked(queue))} m WHERE m.tid = l.ctid"
    )
    return int(status.rpartition(" ")[2])


def _marked(queue: Table) -> str:
    return f"backroom_outdated_{queue.name}"[:63]
