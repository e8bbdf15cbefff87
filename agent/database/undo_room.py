"""Room for rows that turn back: two that exchange a number cannot both be first.

A row that turns back or goes, and holds a unique value which another gets back, is parked: as in a restore
(:mod:`agent.database.merge_keys`), where the same numbers went the other way.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from agent.database.merge_keys import key_parts, part_names, takes_part
from agent.database.names import column_list, literal, qualified, quote
from agent.database.undo import NOW
from agent.database.undo_write import Fate, Kept
from agent.database.values import free_value
from agent.tables.schema import Column, UniqueKey

# Names that no column of a table has.
_NUMBER, _PLACE, _PARKED = (quote(f"backroom:{name}") for name in ("number", "place", "parked"))


async def make_room(connection: asyncpg.Connection, kept: Kept) -> None:
    """Park the values that stand in the way. Everything that is parked is set again, or deleted, in the same undo."""
    if not kept.table.identity:
        return
    for key in kept.table.keys:
        if any(takes_part(column, key) for column in kept.table.columns if column.generated):
            continue
        holders = _holders(kept, await key_parts(connection, kept.table, key))
        if await connection.fetchval(f"SELECT EXISTS ({holders})"):
            await _park(connection, kept, key, holders)


def _holders(kept: Kept, parts: Sequence[str]) -> str:
    """The addresses of kept rows whose live row holds what another row gets back."""
    names = part_names(parts)
    values = ", ".join(f"{part} AS {quote(name)}" for part, name in zip(parts, names, strict=True))
    live = f"(SELECT {column_list(kept.table.identity)}, {values} FROM {qualified(kept.table)})"
    same = " AND ".join(f"l.{quote(name)} = w.{quote(name)}" for name in names)
    back = f"g.fate IN ({literal(Fate.REVERT)}, {literal(Fate.RETURN)})"
    wanted = f"(SELECT ctid AS {_PLACE}, {values} FROM {kept.relation})"
    return (
        f"SELECT k.ctid FROM {kept.fated(Fate.REVERT, Fate.DELETE)} JOIN {live} l ON {kept.same_row()} "
        f"JOIN {wanted} w ON {same} AND w.{_PLACE} <> k.ctid JOIN {kept.fates} g ON g.kept = w.{_PLACE} AND {back}"
    )


async def _park(connection: asyncpg.Connection, kept: Kept, key: UniqueKey, holders: str) -> None:
    column, value = _parking(kept, key)
    if column is None:
        return
    live = qualified(kept.table)
    await connection.execute(
        f"CREATE TEMP TABLE backroom_room ON COMMIT DROP AS "
        f"SELECT k.{_PLACE}, {column_list(kept.table.identity, 'k')}, "
        f"({value})::{column.type} AS {_PARKED} FROM (SELECT k.ctid AS {_PLACE}, k.{_NUMBER}, "
        + ", ".join(f"k.{quote(f'{NOW}{place}')} AS {quote(name)}" for place, name in enumerate(kept.table.identity))
        + f" FROM (SELECT k.ctid, k.*, row_number() OVER () AS {_NUMBER} FROM {kept.relation} k) k "
        f"WHERE k.ctid IN ({holders})) k"
    )
    same = " AND ".join(f"l.{quote(name)} = r.{quote(name)}" for name in kept.table.identity)
    await connection.execute(
        f"UPDATE {live} l SET {quote(column.name)} = r.{_PARKED} FROM pg_temp.backroom_room r WHERE {same}"
    )
    if column.name in kept.table.identity:
        place = kept.table.identity.index(column.name)
        await connection.execute(
            f"WITH moved AS (UPDATE {kept.relation} k SET {quote(f'{NOW}{place}')} = r.{_PARKED} "
            f"FROM pg_temp.backroom_room r WHERE k.ctid = r.{_PLACE} RETURNING r.{_PLACE} AS old, k.ctid AS new) "
            f"UPDATE {kept.fates} f SET kept = m.new FROM moved m WHERE f.kept = m.old"
        )
    await connection.execute("DROP TABLE pg_temp.backroom_room")


def _parking(kept: Kept, key: UniqueKey) -> tuple[Column | None, str]:
    refers = {name for foreign in kept.table.foreign_keys for name in foreign.columns}
    columns = [each for each in kept.table.columns if takes_part(each, key) and each.identity != "a"]
    for column in columns:
        if key.columns and not column.not_null and not key.nulls_not_distinct:
            return column, "NULL"
    seed = f"ROW({column_list(kept.table.identity, 'k')})::text"
    for column in columns:
        value = "" if column.name in refers else free_value(column, seed, qualified(kept.table), f"k.{_NUMBER}")
        if value:
            return column, value
    return None, ""
