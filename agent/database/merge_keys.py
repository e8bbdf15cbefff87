"""Rows of a bundle that would collide with other rows here on a unique key, whatever its form.

What counts is how the table is when everything is written: a number that a row gives up in the same restore, because
it is updated or deleted, is free. Such a row is parked before the others are written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.merge import UPDATES, WRITTEN, Merge
from agent.database.names import column_list, quote
from agent.database.values import free_value
from agent.tables.schema import Column, Table, UniqueKey

_EXAMPLES = 5
# Names that no column of a table has.
_PLACE = "backroom:place"
_FREE, _NUMBER = quote("backroom:free"), quote("backroom:number")

_EXPRESSIONS = """
SELECT pg_get_indexdef(i.indexrelid, place, true) AS expression
FROM pg_index i, generate_series(1, i.indnkeyatts) AS place
WHERE i.indexrelid = $1::regclass ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Collision:
    """Rows of one stage that collide with other live rows on ``key``; ``examples`` pair staged and live identity.

    ``relation`` holds the address of each such staged row as ``staged``.
    """

    merge: Merge
    key: UniqueKey
    parts: tuple[str, ...]
    rows: int
    examples: tuple[tuple[str, str], ...]
    relation: str


@dataclass(frozen=True, slots=True)
class Parking:
    """Live rows that give up a unique value which a staged row takes: ``column`` gets ``value`` (SQL) meanwhile.

    ``relation`` has the identities of these rows.
    """

    merge: Merge
    column: str
    value: str
    rows: int
    relation: str


async def key_parts(connection: asyncpg.Connection, table: Table, key: UniqueKey) -> tuple[str, ...]:
    """The key's columns and expressions as SQL over an unaliased row."""
    if key.columns:
        return tuple(quote(name) for name in key.columns)
    index = f"{quote(table.namespace)}.{quote(key.name)}"
    return tuple(row["expression"] for row in await connection.fetch(_EXPRESSIONS, index))


def key_side(merge: Merge, key: UniqueKey, parts: Sequence[str], relation: str, condition: str) -> str:
    """The rows that the key covers, with its parts under names that no table has. The catalog gives predicates and
    expressions over bare column names, so each side is a query over one relation."""
    values = "".join(f", {part} AS {quote(name)}" for part, name in zip(parts, part_names(parts), strict=True))
    conditions = [condition] + ([f"({key.predicate})"] if key.predicate else [])
    return (
        f"(SELECT ctid AS {quote(_PLACE)}, {column_list(merge.identity)}{values} FROM {relation} "
        f"WHERE {' AND '.join(conditions)})"
    )


def part_names(parts: Sequence[str]) -> tuple[str, ...]:
    """The names of the key's parts in :func:`key_side`."""
    return tuple(f"backroom:{place}" for place, _ in enumerate(parts))


def same_key(key: UniqueKey, names: Sequence[str]) -> str:
    """Boolean SQL: the sides ``s`` and ``l`` have the same key."""
    if key.nulls_not_distinct:
        return f"ROW({column_list(names, 's')})::text = ROW({column_list(names, 'l')})::text"
    return " AND ".join(f"s.{quote(name)} = l.{quote(name)}" for name in names)


async def collisions(
    connection: asyncpg.Connection, merge: Merge, updating: Sequence[Merge], victims: str
) -> tuple[list[Collision], list[Parking]]:
    """What the rows that are to be written meet: rows here that stay, and rows that make room.

    ``updating`` are the merges of the same table that may update rows; ``victims`` is a relation with the identities
    of rows that go, or "". Both lists are empty for a table without rows to write.
    """
    found: list[Collision] = []
    parkings: list[Parking] = []
    if merge.fresh:
        return found, parkings
    for place, key in enumerate(merge.stage.table.keys):
        if merge.identity and key.columns == merge.identity and key.plain:
            continue
        if not merge.identity or not decided(merge, key):
            continue
        parts = await key_parts(connection, merge.stage.table, key)
        relation = await _meet(connection, merge, key, parts, place, updating, victims)
        if relation is None:
            continue
        parking = _parking(merge, key, relation)
        collision = await _collision(connection, merge, key, parts, relation, parking is None)
        if collision is not None:
            found.append(collision)
        making_room = await connection.fetchval(f"SELECT count(*) FROM {relation} WHERE {_FREE}")
        if parking is not None and making_room:
            parkings.append(Parking(merge, *parking, making_room, relation))
    return found, parkings


def decided(merge: Merge, key: UniqueKey) -> bool:
    """Whether the staged columns decide the key: a column that the bundle lacks gets its default, which is no key to
    compare (the constraint itself still holds when the rows are written)."""
    lacking = {column.name for column in merge.stage.table.columns} - set(merge.stage.written)
    if key.plain:
        return not lacking & set(key.columns)
    return not any(name in key.definition for name in lacking)


async def _meet(
    connection: asyncpg.Connection,
    merge: Merge,
    key: UniqueKey,
    parts: Sequence[str],
    place: int,
    updating: Sequence[Merge],
    victims: str,
) -> str | None:
    """A temporary table of the pairs of staged and live rows with one key; None where there are none."""
    staged = key_side(merge, key, parts, f"{merge.stage.relation} s", merge.chosen(*WRITTEN))
    live = key_side(merge, key, parts, f"{merge.rows} l", "true")
    same = same_key(key, part_names(parts))
    where = f"FROM {staged} s JOIN {live} l ON {same} WHERE NOT ({merge.same_row()})"
    if not await connection.fetchval(f"SELECT EXISTS (SELECT {where})"):
        return None
    free = [
        f"EXISTS (SELECT FROM {other.stage.relation} o WHERE {other.chosen(*UPDATES, alias='o')} "
        f"AND {other.same_row('h', 'o')})"
        for other in updating
        if not other.stub
    ]
    if victims:
        free.append(f"EXISTS (SELECT FROM {victims} v WHERE {merge.same_row('h', 'v')})")
    ours, theirs = (f"ROW({column_list(merge.identity, alias)})::text" for alias in ("l", "s"))
    name = f"backroom_meet_{merge.stage.index}_{place}"
    await connection.execute(
        f"DROP TABLE IF EXISTS pg_temp.{quote(name)}; CREATE TEMP TABLE {quote(name)} ON COMMIT DROP AS "
        f"WITH h AS MATERIALIZED (SELECT s.{quote(_PLACE)} AS {quote('backroom:staged')}, "
        f"{theirs} AS {quote('backroom:theirs')}, {ours} AS {quote('backroom:ours')}, "
        f"{column_list(merge.identity, 'l')} {where}) SELECT *, {' OR '.join(free) or 'false'} AS {_FREE} FROM h"
    )
    return f"pg_temp.{quote(name)}"


async def _collision(
    connection: asyncpg.Connection,
    merge: Merge,
    key: UniqueKey,
    parts: tuple[str, ...],
    relation: str,
    all_of_them: bool,
) -> Collision | None:
    which = "true" if all_of_them else f"NOT {_FREE}"
    theirs, ours, staged = (quote(f"backroom:{name}") for name in ("theirs", "ours", "staged"))
    row = await connection.fetchrow(
        f"SELECT count(DISTINCT {staged}) AS rows, (array_agg({theirs} ORDER BY {theirs}, {ours}))[1:{_EXAMPLES}] "
        f"AS theirs, (array_agg({ours} ORDER BY {theirs}, {ours}))[1:{_EXAMPLES}] AS ours FROM {relation} WHERE {which}"
    )
    assert row is not None
    if not row["rows"]:
        return None
    examples = tuple(zip(row["theirs"], row["ours"], strict=True))
    return Collision(
        merge, key, parts, row["rows"], examples, f"(SELECT {staged} AS staged FROM {relation} WHERE {which})"
    )


def _parking(merge: Merge, key: UniqueKey, relation: str) -> tuple[str, str] | None:
    """The column of the key that can hold something else meanwhile, and what, as SQL; None where none can."""
    table = merge.stage.table
    refers = {name for foreign in table.foreign_keys for name in foreign.columns}
    choices = [column for column in table.columns if takes_part(column, key) and _free_to_change(column, merge)]
    for column in choices:
        # Rows that go are not set by an update, so the value must be lawful; NULL is, in most columns that have it.
        if not column.not_null and key.columns and not key.nulls_not_distinct:
            return column.name, f"NULL::{column.type}"
    for column in choices:
        value = free_value(column, f"ROW({column_list(merge.identity, 'h')})::text", merge.live, f"h.{_NUMBER}")
        if value and column.name not in refers:
            return column.name, f"({value})::{column.type}"
    return None


def takes_part(column: Column, key: UniqueKey) -> bool:
    """Whether the key is made of the column, by itself or in an expression."""
    if key.columns:
        return column.name in key.columns
    return (
        re.search(rf'(?<![\w"]){re.escape(quote(column.name))}(?!\w)|\b{re.escape(column.name)}\b', key.definition)
        is not None
    )


def _free_to_change(column: Column, merge: Merge) -> bool:
    return column.name in merge.compared and column.identity != "a" and not column.generated


async def park(connection: asyncpg.Connection, parking: Parking) -> None:
    """Let the rows give up their value: the value that they get for good comes with the updates."""
    merge = parking.merge
    rows = (
        f"(SELECT d.*, row_number() OVER () AS {_NUMBER} FROM "
        f"(SELECT DISTINCT {column_list(merge.identity)} FROM {parking.relation} WHERE {_FREE}) d)"
    )
    await connection.execute(
        f"UPDATE {merge.live} AS l SET {quote(parking.column)} = {parking.value} FROM {rows} h "
        f"WHERE {merge.same_row('l', 'h')}"
    )
