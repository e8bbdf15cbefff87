"""Single rows of a plan, for people who want to see what a number stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.merge import Merge, Verdict
from agent.database.names import column_list, quote
from agent.database.scalars import scalars


@dataclass(frozen=True, slots=True)
class Pair:
    """A staged row and the live one: its key as text, what becomes of it, and for each column that differs both values
    as text (``here`` is None for a row that is not here yet, and for NULL)."""

    verdict: Verdict
    key: str
    columns: tuple[tuple[str, str | None, str | None], ...]


async def pairs(connection: asyncpg.Connection, merge: Merge, verdict: Verdict, most: int) -> tuple[Pair, ...]:
    """Up to ``most`` rows with this verdict, by key, with (column, value in the bundle, value here)."""
    if not merge.identity:
        return ()
    columns = merge.compared
    staged = ", ".join(f"s.{quote(name)}::text" for name in columns)
    live = ", ".join(f"l.{quote(name)}::text" for name in columns)
    rows = await connection.fetch(
        f"SELECT ROW({column_list(merge.identity, 's')})::text AS key, ARRAY[{staged}]::text[] AS theirs, "
        f"ARRAY[{live}]::text[] AS ours FROM {merge.stage.relation} s "
        f"LEFT JOIN {merge.live} l ON {merge.same_row()} WHERE {merge.chosen(verdict)} ORDER BY 1 LIMIT {most}"
    )
    return tuple(
        Pair(
            verdict,
            row["key"],
            tuple(
                (name, theirs, ours)
                for name, theirs, ours in zip(columns, row["theirs"], row["ours"], strict=True)
                if theirs != ours
            ),
        )
        for row in rows
    )


async def count_ahead(connection: asyncpg.Connection, merges: Sequence[Merge], minutes: int) -> dict[str, int]:
    """Staged rows that say they were changed more than so many minutes from now, by table; tables without are left
    out."""
    # A timestamp without zone is UTC, which is this session's zone, so both kinds compare with now().
    asked = {
        (merge.stage.table.name, merge.stage.index): f"(SELECT count(*) FROM {merge.stage.relation} s "
        f"WHERE s.{quote(merge.clock)}::timestamptz > now() + interval '{minutes} minutes')"
        for merge in merges
        if merge.clock is not None
    }
    found: dict[str, int] = {}
    for (name, _), rows in (await scalars(connection, asked)).items():
        if rows:
            found[name] = found.get(name, 0) + int(rows)
    return found
