"""Rows of a bundle that would collide with other rows here on a unique key, whatever its form."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from agent.database.merge import WRITTEN, Merge
from agent.database.names import column_list, quote
from agent.tables.schema import UniqueKey

_EXAMPLES = 5
_PLACE = "backroom:place"

_EXPRESSIONS = """
SELECT pg_get_indexdef(i.indexrelid, place, true) AS expression
FROM pg_index i, generate_series(1, i.indnkeyatts) AS place
WHERE i.indexrelid = $1::regclass ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Collision:
    """Rows of one stage that collide with other live rows on ``key``; ``examples`` pair staged and live identity."""

    key: UniqueKey
    rows: int
    examples: tuple[tuple[str, str], ...]


async def collisions(connection: asyncpg.Connection, merge: Merge) -> tuple[Collision, ...]:
    """The collisions of the rows that are to be written. Empty for a table without rows to write."""
    found = []
    for key in merge.stage.table.keys:
        if merge.identity and key.columns == merge.identity and key.plain:
            continue
        if not merge.identity or not _decided(merge, key):
            continue
        parts = await _parts(connection, merge, key)
        collision = await _collide(connection, merge, key, parts)
        if collision is not None:
            found.append(collision)
    return tuple(found)


def _decided(merge: Merge, key: UniqueKey) -> bool:
    """Whether the staged columns decide the key: a column that the bundle lacks gets its default, which is no key to
    compare (the constraint itself still holds when the rows are written)."""
    lacking = {column.name for column in merge.stage.table.columns} - set(merge.stage.written)
    if key.plain:
        return not lacking & set(key.columns)
    return not any(name in key.definition for name in lacking)


async def _parts(connection: asyncpg.Connection, merge: Merge, key: UniqueKey) -> tuple[str, ...]:
    """The key's columns and expressions as SQL over an unaliased row."""
    if key.columns:
        return tuple(quote(name) for name in key.columns)
    index = f"{quote(merge.stage.table.namespace)}.{quote(key.name)}"
    return tuple(row["expression"] for row in await connection.fetch(_EXPRESSIONS, index))


async def _collide(
    connection: asyncpg.Connection, merge: Merge, key: UniqueKey, parts: tuple[str, ...]
) -> Collision | None:
    staged = _side(merge, key, parts, f"{merge.stage.relation} s", merge.chosen(*WRITTEN))
    live = _side(merge, key, parts, f"{merge.live} l", "true")
    names = [_part(place) for place, _ in enumerate(parts)]
    if key.nulls_not_distinct:
        same = f"ROW({column_list(names, 's')})::text = ROW({column_list(names, 'l')})::text"
    else:
        same = " AND ".join(f"s.{quote(name)} = l.{quote(name)}" for name in names)
    ours, theirs = (f"ROW({column_list(merge.identity, alias)})::text" for alias in ("l", "s"))
    row = await connection.fetchrow(
        f"SELECT count(DISTINCT s.{quote(_PLACE)}) AS rows, (array_agg({theirs}))[1:{_EXAMPLES}] AS theirs, "
        f"(array_agg({ours}))[1:{_EXAMPLES}] AS ours FROM {staged} s JOIN {live} l ON {same} "
        f"WHERE NOT ({merge.same_row()})"
    )
    assert row is not None
    if not row["rows"]:
        return None
    return Collision(key, row["rows"], tuple(zip(row["theirs"], row["ours"], strict=True)))


def _side(merge: Merge, key: UniqueKey, parts: tuple[str, ...], relation: str, condition: str) -> str:
    """The rows that the key covers, with its parts under names that no table has. The catalog gives predicates and
    expressions over bare column names, so each side is a query over one relation."""
    values = "".join(f", {part} AS {quote(_part(place))}" for place, part in enumerate(parts))
    conditions = [condition] + ([f"({key.predicate})"] if key.predicate else [])
    return (
        f"(SELECT ctid AS {quote(_PLACE)}, {column_list(merge.identity)}{values} FROM {relation} "
        f"WHERE {' AND '.join(conditions)})"
    )


def _part(place: int) -> str:
    return f"backroom:{place}"
