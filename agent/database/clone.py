"""New ids for staged rows: what makes a second business of a bundle's (DESIGN section 5, deploy and clone)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from agent.database.merge import Merge
from agent.database.names import literal, quote
from agent.database.values import INTEGERS
from agent.tables.fit import TypeText
from agent.tables.identity import IdColumn
from agent.tables.schema import Column


def _map(table: str) -> str:
    return quote(f"backroom_ids_{table}"[:63])


async def new_ids(connection: asyncpg.Connection, merges: Sequence[Merge], marks: Mapping[int, str], seed: str) -> bool:
    """Make a new id for every marked staged row of one table; ``marks`` are their addresses by stage.

    Texts and uuids are derived from the old id and ``seed``, so that a plan and its apply make the same; numbers go on
    after the greatest. Returns whether there are any. Raises ``ValueError`` for a key of another type.
    """
    table = merges[0].stage.table
    (key,) = merges[0].identity
    column = table.column(key)
    assert column is not None
    old = " UNION ".join(
        f"SELECT s.{quote(key)} AS old FROM {merge.stage.relation} s "
        f"JOIN {marks[merge.stage.index]} m ON m.tid = s.ctid"
        for merge in merges
        if merge.stage.index in marks
    )
    if not old:
        return False
    taken = [f"SELECT max({quote(key)}) AS id FROM {merge.stage.relation} s" for merge in merges]
    taken.append(f"SELECT max({quote(key)}) FROM {merges[0].live} l")
    value = _new_id(column, f"{literal(f'{seed}:{table.name}:')} || o.old::text", " UNION ALL ".join(taken))
    await connection.execute(
        f"CREATE TEMP TABLE {_map(table.name)} ON COMMIT DROP AS "
        f"SELECT o.old, ({value})::{column.type} AS new FROM ({old}) o; "
        f"ALTER TABLE pg_temp.{_map(table.name)} ADD PRIMARY KEY (old)"
    )
    return True


def _new_id(column: Column, seed: str, taken: str) -> str:
    kind = TypeText.parse(column.type)
    if kind.base == "uuid":
        return f"md5({seed})::uuid"
    if kind.base in INTEGERS or kind.base == "numeric":
        return f"(SELECT max(t.id) FROM ({taken}) t) + row_number() OVER (ORDER BY o.old)"
    if kind.base in {"text", "character varying", "character"} and not kind.array:
        room = kind.arguments[0] if kind.arguments else 36
        return f"left(md5({seed})::uuid::text, {room})"
    raise ValueError(column.type)


async def take_new_ids(
    connection: asyncpg.Connection, merge: Merge, renewed: frozenset[str], ids: Sequence[IdColumn]
) -> None:
    """Put the new ids into a stage: its own, if its table is among ``renewed``, and those that its rows refer to."""
    table = merge.stage.table
    holds = {each.column: (each.parent, each.array) for each in ids if each.parent in renewed}
    if table.name in renewed:
        holds[merge.identity[0]] = (table.name, False)
    sets = []
    for name, (parent, array) in sorted(holds.items()):
        if name not in merge.stage.written:
            continue
        value, known = f"s.{quote(name)}", f"pg_temp.{_map(parent)}"
        if array:
            mapped = (
                f"ARRAY(SELECT coalesce(m.new, e.id) FROM unnest({value}) WITH ORDINALITY e(id, place) "
                f"LEFT JOIN {known} m ON m.old = e.id ORDER BY e.place)"
            )
            sets.append(f"{quote(name)} = CASE WHEN {value} IS NOT NULL THEN {mapped} END")
        else:
            sets.append(f"{quote(name)} = coalesce((SELECT m.new FROM {known} m WHERE m.old = {value}), {value})")
    if sets:
        await connection.execute(f"UPDATE {merge.stage.relation} s SET {', '.join(sets)}")


async def name_taken(connection: asyncpg.Connection, merge: Merge, column: str, name: str) -> bool:
    """Whether a live row has this name."""
    return bool(
        await connection.fetchval(f"SELECT EXISTS (SELECT FROM {merge.live} l WHERE l.{quote(column)} = $1)", name)
    )


async def rename_copy(connection: asyncpg.Connection, merge: Merge, column: str, name: str, old: str) -> str | None:
    """Give the copy of the business ``old`` its name; returns its id, as text, or None if the stage lacks it."""
    found = await connection.fetchval(
        f"UPDATE {merge.stage.relation} s SET {quote(column)} = $1 FROM pg_temp.{_map(merge.stage.table.name)} m "
        f"WHERE m.old::text = $2 AND s.{quote(merge.identity[0])} = m.new RETURNING m.new::text",
        name,
        old,
    )
    return None if found is None else str(found)
