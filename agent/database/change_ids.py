"""Giving live rows their new ids, and changing whatever refers to them (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from agent.database.names import qualified, quote
from agent.database.reidentify import Rename, Renames
from agent.database.values import free_value
from agent.tables.identity import IdColumn
from agent.tables.schema import Column, Schema, Table


async def change_ids(connection: asyncpg.Connection, schema: Schema, renames: Renames) -> dict[str, int]:
    """Give the live rows their new ids, and change whatever refers to them; returns how many rows of each table.

    A foreign key that cascades follows by itself. Other columns change in the same statement, since a foreign key is
    checked at its end. Where a new id is another row's that changes too, all go over ids that nobody has.
    """
    done = {}
    for name, rename in renames.found.items():
        await _let_numbers_be_given(connection, rename, True)
        crossing = await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {rename.relation} r JOIN {qualified(rename.table)} l "
            f"ON l.{quote(rename.column)} = r.new)"
        )
        if crossing:
            away = await _parked(connection, rename)
            await _change(connection, schema, renames.ids, rename, away, "old", "parked", declared=True)
            done[name] = await _change(connection, schema, renames.ids, rename, away, "parked", "new", declared=True)
            await _change(connection, schema, renames.ids, rename, rename.relation, "old", "new", declared=False)
        else:
            done[name] = await _change(connection, schema, renames.ids, rename, rename.relation, "old", "new")
        await _let_numbers_be_given(connection, rename, False)
    return done


async def _let_numbers_be_given(connection: asyncpg.Connection, rename: Rename, start: bool) -> None:
    """A number that only the database may give cannot be updated, but by the owner of the table for a while."""
    column = rename.table.column(rename.column)
    if column is not None and column.identity == "a":
        await connection.execute(
            f"ALTER TABLE {qualified(rename.table)} ALTER COLUMN {quote(rename.column)} "
            f"SET GENERATED {'BY DEFAULT' if start else 'ALWAYS'}"
        )


async def _parked(connection: asyncpg.Connection, rename: Rename) -> str:
    """A temporary table like the rename's, with an id for each row that no row has."""
    column = rename.table.column(rename.column)
    assert column is not None
    value = free_value(column, "r.old::text", qualified(rename.table), "row_number() OVER ()")
    name = f"backroom_parked_{rename.table.name}"[:63]
    await connection.execute(
        f"CREATE TEMP TABLE {quote(name)} ON COMMIT DROP AS "
        f"SELECT old, new, ({value})::{column.type} AS parked FROM {rename.relation} r"
    )
    return f"pg_temp.{quote(name)}"


async def _change(
    connection: asyncpg.Connection,
    schema: Schema,
    ids: Mapping[str, tuple[IdColumn, ...]],
    rename: Rename,
    relation: str,
    old: str,
    new: str,
    *,
    declared: bool | None = None,
) -> int:
    """Change ids from one column of ``relation`` to another; the table's own unless only undeclared ones are wanted."""
    sets: dict[str, list[tuple[IdColumn, Column]]] = {}
    for name, columns in ids.items():
        for each in columns:
            column = schema.tables[name].column(each.column)
            if each.parent != rename.table.name or each.cascades or column is None:
                continue
            if declared is None or each.declared is declared:
                sets.setdefault(name, []).append((each, column))
    own = declared is not False
    parts = []
    if own:
        sets.setdefault(rename.table.name, [])
    for name, wanted in sorted(sets.items(), key=lambda item: item[0] != rename.table.name):
        with_own = own and name == rename.table.name
        parts.append(_update(schema.tables[name], wanted, rename, relation, old, new, with_own))
    if not parts:
        return 0
    first, *others = parts
    named = "".join(f"{', ' if place else 'WITH '}t{place} AS ({part})" for place, part in enumerate(others))
    await connection.execute(f"{named} {first}")
    if not own:
        return 0
    key = quote(rename.column)
    changed = f"SELECT count(*) FROM {qualified(rename.table)} l JOIN {relation} r ON l.{key} = r.{quote(new)}"
    return int(await connection.fetchval(changed))


def _update(
    table: Table,
    columns: Sequence[tuple[IdColumn, Column]],
    rename: Rename,
    relation: str,
    old: str,
    new: str,
    with_own: bool,
) -> str:
    def mapped(name: str) -> str:
        value = f"t.{quote(name)}"
        return f"coalesce((SELECT r.{quote(new)} FROM {relation} r WHERE r.{quote(old)} = {value}), {value})"

    changes, conditions = [], []
    olds = f"SELECT r.{quote(old)} FROM {relation} r"
    if with_own:
        changes.append(f"{quote(rename.column)} = {mapped(rename.column)}")
        conditions.append(f"t.{quote(rename.column)} IN ({olds})")
    for each, column in columns:
        name = quote(each.column)
        if each.array:
            array = f"ARRAY({olds})::{column.type}"
            values = (
                f"SELECT coalesce(r.{quote(new)}, e.id) FROM unnest(t.{name}) WITH ORDINALITY e(id, place) "
                f"LEFT JOIN {relation} r ON r.{quote(old)} = e.id ORDER BY e.place"
            )
            changes.append(f"{name} = CASE WHEN t.{name} && {array} THEN ARRAY({values}) ELSE t.{name} END")
            conditions.append(f"t.{name} && {array}")
        else:
            changes.append(f"{name} = {mapped(each.column)}")
            conditions.append(f"t.{name} IN ({olds})")
    return f"UPDATE {qualified(table)} t SET {', '.join(changes)} WHERE {' OR '.join(conditions)}"
