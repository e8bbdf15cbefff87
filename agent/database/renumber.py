"""Two things, one number: the bundle's row gets the next free number by the pattern of its business (DESIGN 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.merge import Merge
from agent.database.merge_keys import Collision
from agent.database.names import column_list, quote
from agent.database.values import INTEGERS
from agent.tables.fit import TypeText

# Names that no column of a table has.
_TID, _OLD, _DIGITS, _PREFIX, _PLACE, _NUMBER, _VALUE = (
    quote(f"backroom:{name}") for name in ("tid", "old", "digits", "prefix", "place", "number", "value")
)
_TEXT = {"text", "character varying", "character"}


@dataclass(frozen=True, slots=True)
class NewNumber:
    """The staged row ``row`` (its identity as text) has ``new`` in ``column``, and had ``old``."""

    row: str
    column: str
    old: str
    new: str


def number_column(collision: Collision, fixed: frozenset[str]) -> str | None:
    """The column of the key that is a number or code and may be another; None where there is none.

    ``fixed`` are columns that say which thing it is: references, natural identities.
    """
    table = collision.merge.stage.table
    refers = {name for key in table.foreign_keys for name in key.columns} | fixed
    named = collision.key.columns or tuple(
        column.name
        for column in table.columns
        if any(re.search(rf'(?<![\w"])"?{re.escape(column.name)}"?(?!\w)', part) for part in collision.parts)
    )
    for name in reversed(named):
        column = table.column(name)
        if column is None or name in refers or name not in collision.merge.compared or column.enum:
            continue
        kind = TypeText.parse(column.type)
        if not kind.array and kind.base in _TEXT | INTEGERS:
            return name
    return None


async def renumber(
    connection: asyncpg.Connection, collision: Collision, column: str, others: Sequence[Merge]
) -> list[NewNumber]:
    """Give the colliding staged rows other numbers in their stage. ``others`` are all merges of the table.

    A row that is here already keeps the number that it has here: so a second restore changes nothing. Any other gets
    the one after the greatest of its pattern, here and in the bundle, within the rest of the key. A text without
    digits at its end gets "-2"; an address (with an @) is left.
    """
    merge = collision.merge
    kept = await _as_here(connection, collision, column)
    name = quote(column)
    kind = merge.stage.table.column(column)
    assert kind is not None
    scope = [each for each in collision.key.columns if each != column]
    scoped = f", {column_list(scope)}" if scope else ""
    pool = " UNION ALL ".join(
        [f"SELECT {name}::text AS {_VALUE}{scoped} FROM {merge.rows} l"]
        + [f"SELECT {name}::text AS {_VALUE}{scoped} FROM {each.stage.relation} s" for each in others]
    )
    same = "".join(f" AND n.{quote(each)} IS NOT DISTINCT FROM p.{quote(each)}" for each in scope)
    partition = ", ".join([f"w.{_PREFIX}", *(f"w.{quote(each)}" for each in scope)])
    order = ", ".join(f"w.{quote(each)}" for each in merge.identity)
    digits = "coalesce(substring({value} from '[0-9]{{1,18}}$'), '')"
    old_digits, pool_digits = digits.format(value=f"s.{name}::text"), digits.format(value=f"q.{_VALUE}")
    own = column_list(dict.fromkeys([*merge.identity, *scope]), "s")
    query = (
        f"WITH w AS (SELECT d.*, CASE WHEN {_DIGITS} = '' THEN {_OLD} || '-' ELSE left({_OLD}, -length({_DIGITS})) END "
        f"AS {_PREFIX} FROM (SELECT s.ctid AS {_TID}, s.{name}::text AS {_OLD}, {old_digits} AS {_DIGITS}, {own} "
        f"FROM {merge.stage.relation} s "
        f"WHERE s.ctid IN (SELECT staged FROM {collision.relation} c) AND s.{name}::text NOT LIKE '%@%') d "
        f"WHERE NOT EXISTS (SELECT FROM {merge.rows} l WHERE {merge.same_row('l', 'd')})), "
        f"p AS (SELECT left(q.{_VALUE}, -length({pool_digits})) AS {_PREFIX}, max({pool_digits}::numeric) AS greatest"
        f"{scoped} FROM ({pool}) q WHERE {pool_digits} <> '' GROUP BY 1{scoped}), "
        f"n AS (SELECT w.*, row_number() OVER (PARTITION BY {partition} ORDER BY {order}) AS {_PLACE} FROM w), "
        f"z AS (SELECT n.*, (coalesce(p.greatest, 1) + n.{_PLACE})::text AS {_NUMBER} "
        f"FROM n LEFT JOIN p ON p.{_PREFIX} = n.{_PREFIX}{same}) "
        f"SELECT {_TID} AS tid, {_OLD} AS old, ROW({column_list(merge.identity, 'z')})::text AS row, "
        f"{_PREFIX} || lpad({_NUMBER}, greatest(length({_NUMBER}), length({_DIGITS})), '0') AS new FROM z"
    )
    await connection.execute(f"CREATE TEMP TABLE backroom_numbers ON COMMIT DROP AS {query}")
    clock = ""
    if merge.clock:
        at = merge.stage.table.column(merge.clock)
        now = "now()" if at and at.type.endswith("with time zone") else "(now() AT TIME ZONE 'UTC')"
        clock = f", {quote(merge.clock)} = greatest(s.{quote(merge.clock)}, {now})"
    rows = await connection.fetch("SELECT old, new, row FROM pg_temp.backroom_numbers ORDER BY old, row")
    await connection.execute(
        f"UPDATE {merge.stage.relation} s SET {name} = n.new::{kind.type}{clock} FROM pg_temp.backroom_numbers n "
        "WHERE s.ctid = n.tid; DROP TABLE pg_temp.backroom_numbers"
    )
    return kept + [NewNumber(row["row"], column, row["old"], row["new"]) for row in rows]


async def _as_here(connection: asyncpg.Connection, collision: Collision, column: str) -> list[NewNumber]:
    merge, name = collision.merge, quote(column)
    clock = f", {quote(merge.clock)} = greatest(s.{quote(merge.clock)}, l.{quote(merge.clock)})" if merge.clock else ""
    rows = await connection.fetch(
        f"WITH o AS (SELECT s.ctid AS tid, s.{name}::text AS old FROM {merge.stage.relation} s) "
        f"UPDATE {merge.stage.relation} s SET {name} = l.{name}{clock} FROM {merge.rows} l, o "
        f"WHERE o.tid = s.ctid AND s.ctid IN (SELECT staged FROM {collision.relation} c) AND {merge.same_row()} "
        f"AND l.{name} IS DISTINCT FROM s.{name} "
        f"RETURNING ROW({column_list(merge.identity, 's')})::text AS row, o.old, l.{name}::text AS new"
    )
    found = [NewNumber(row["row"], column, row["old"], row["new"] or "") for row in rows]
    return sorted(found, key=lambda each: (each.old, each.row))
