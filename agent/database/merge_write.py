"""Writing the judged rows: inserts in dependency order, cycles in one statement, updates, sequences.

PostgreSQL checks a foreign key that is not deferrable at the end of the statement, triggers of data-modifying CTEs
included. So a cycle of tables, even of required references alone, goes in as one statement with one CTE per table:
no ownership, no superuser, no disabled constraint, no second pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from agent.database.merge import UPDATES, Merge, Verdict
from agent.database.names import column_list, literal, qualified, quote
from agent.tables.schema import Column, ForeignKey, Schema, Table

_NEXTVAL = re.compile(r"^nextval\('((?:[^']|'')+)'::regclass\)$")


@dataclass(frozen=True, slots=True)
class Clear:
    """A reference that becomes NULL in inserted rows where the row that it names is not here. ``columns`` are those
    of the key that may be NULL."""

    key: ForeignKey
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filling:
    """One table to insert into: its merges (rows and stubs) and the references to clear."""

    table: Table
    merges: tuple[Merge, ...]
    clears: tuple[Clear, ...] = field(default=())


def missing_parent(schema: Schema, key: ForeignKey, alias: str = "s") -> str:
    """Boolean SQL: the row ``alias`` refers by ``key`` to a row that is not here."""
    parent = qualified(schema.tables[key.references])
    pairs = list(zip(key.columns, key.references_columns, strict=True))
    given = " AND ".join(f"{alias}.{quote(ours)} IS NOT NULL" for ours, _ in pairs)
    same = " AND ".join(f"p.{quote(theirs)} = {alias}.{quote(ours)}" for ours, theirs in pairs)
    return f"({given} AND NOT EXISTS (SELECT FROM {parent} p WHERE {same}))"


async def count_missing_parents(
    connection: asyncpg.Connection, schema: Schema, merge: Merge, key: ForeignKey, *verdicts: Verdict
) -> int:
    """Rows with these verdicts that refer by ``key`` to a row that is not here."""
    rows = await connection.fetchval(
        f"SELECT count(*) FROM {merge.stage.relation} s "
        f"WHERE {merge.chosen(*verdicts)} AND {missing_parent(schema, key)}"
    )
    return int(rows)


async def insert_rows(connection: asyncpg.Connection, schema: Schema, fillings: Sequence[Filling]) -> dict[str, int]:
    """Insert the rows to insert of all these tables in one statement; returns how many went into each table."""
    if len(fillings) == 1:
        status = await connection.execute(_insert_sql(schema, fillings[0]))
        return {fillings[0].table.name: _affected(status)}
    parts = ", ".join(
        f"t{place} AS ({_insert_sql(schema, filling)} RETURNING 1)" for place, filling in enumerate(fillings)
    )
    counts = ", ".join(f"(SELECT count(*) FROM t{place})" for place, _ in enumerate(fillings))
    row = await connection.fetchrow(f"WITH {parts} SELECT {counts}")
    assert row is not None
    return {filling.table.name: rows for filling, rows in zip(fillings, row.values(), strict=True)}


def _insert_sql(schema: Schema, filling: Filling) -> str:
    columns = filling.merges[0].stage.written
    selects = [
        f"SELECT {_values(schema, filling, columns)} FROM {merge.stage.relation} s WHERE {merge.chosen(Verdict.INSERT)}"
        for merge in filling.merges
    ]
    overriding = " OVERRIDING SYSTEM VALUE" if any(column.identity for column in filling.table.columns) else ""
    return f"INSERT INTO {qualified(filling.table)} ({column_list(columns)}){overriding} {' UNION ALL '.join(selects)}"


def _values(schema: Schema, filling: Filling, columns: Sequence[str]) -> str:
    values = []
    for name in columns:
        value = f"s.{quote(name)}"
        missing = [missing_parent(schema, clear.key) for clear in filling.clears if name in clear.columns]
        values.append(f"CASE WHEN NOT ({' OR '.join(missing)}) THEN {value} END" if missing else value)
    return ", ".join(values)


async def clear_loaded(connection: asyncpg.Connection, schema: Schema, filling: Filling) -> None:
    """Clear the references of rows that are in the table already, as :func:`insert_rows` does for those it inserts."""
    for clear in filling.clears:
        sets = ", ".join(f"{quote(name)} = NULL" for name in clear.columns)
        missing = missing_parent(schema, clear.key)
        await connection.execute(f"UPDATE {qualified(filling.table)} AS s SET {sets} WHERE {missing}")


async def update_rows(connection: asyncpg.Connection, merge: Merge) -> int:
    """Give the live rows the content of the staged rows that won; returns how many were updated."""
    fixed = {column.name for column in merge.stage.table.columns if column.identity == "a"}
    rows = await _update(connection, merge, [name for name in merge.compared if name not in fixed], *UPDATES)
    if merge.greatest:
        rows += await _update(connection, merge, merge.greatest, Verdict.RAISED)
    return rows


async def _update(connection: asyncpg.Connection, merge: Merge, columns: Sequence[str], *verdicts: Verdict) -> int:
    sets = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in columns)
    status = await connection.execute(
        f"UPDATE {merge.live} AS l SET {sets} FROM {merge.stage.relation} s "
        f"WHERE {merge.chosen(*verdicts)} AND {merge.same_row()}"
    )
    return _affected(status)


async def advance_sequences(connection: asyncpg.Connection, table: Table, columns: Sequence[str]) -> tuple[str, ...]:
    """Move the sequences that feed these columns past the greatest value in the table, never back.

    Returns the sequences that moved. A sequence moves at once and stays moved if the transaction rolls back, which
    costs no more than unused numbers.
    """
    moved = []
    for column in table.columns:
        sequence = _sequence(column)
        if sequence is None or column.name not in columns:
            continue
        value = await connection.fetchval(
            f"SELECT setval({literal(sequence)}::regclass, greatest.value) FROM {sequence} s, "
            f"(SELECT max({quote(column.name)})::bigint AS value FROM {qualified(table)}) AS greatest "
            "WHERE greatest.value > s.last_value"
        )
        if value is not None:
            moved.append(sequence)
    return tuple(moved)


def _sequence(column: Column) -> str | None:
    if column.sequence:
        return column.sequence
    found = _NEXTVAL.match(column.default or "")
    return found.group(1).replace("''", "'") if found else None


def _affected(status: str) -> int:
    return int(status.rpartition(" ")[2])


def by_table(merges: Sequence[Merge]) -> Mapping[str, tuple[Merge, ...]]:
    """The merges grouped by table name."""
    grouped: dict[str, tuple[Merge, ...]] = {}
    for merge in merges:
        grouped[merge.stage.table.name] = (*grouped.get(merge.stage.table.name, ()), merge)
    return grouped
