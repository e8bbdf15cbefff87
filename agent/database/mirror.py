"""Mirror: rows of one business here that the bundle lacks, and what stands in the way of deleting them (DESIGN 5).

Victims are found by the row's own word on whose it is (:mod:`agent.database.ownership`), never by following
references down from shared rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.merge import Merge
from agent.database.names import column_list, qualified, quote
from agent.database.reidentify import Renames
from agent.tables.schema import Table
from agent.tables.scope import NeedEdge

_EXAMPLES = 20
TID = quote("backroom:tid")


@dataclass(frozen=True, slots=True)
class Victims:
    """Rows of one table that go: their addresses now (:data:`TID`), and their identities as they will be."""

    table: Table
    rows: int
    examples: tuple[str, ...]
    fingerprint: str

    @property
    def relation(self) -> str:
        return f"pg_temp.{quote(victims_name(self.table))}"


@dataclass(frozen=True, slots=True)
class InTheWay:
    """Rows of ``table`` that stay and refer to rows of ``parent`` that should go. ``examples`` are their keys."""

    table: str
    columns: tuple[str, ...]
    parent: str
    rows: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.table}.{', '.join(self.columns)}"
        return f"{where}: {self.rows} still refer to rows of {self.parent} that would go ({', '.join(self.examples)})"


def victims_name(table: Table) -> str:
    """The name of the temporary table with a table's victims."""
    return f"backroom_victims_{table.name}"[:63]


async def find_victims(
    connection: asyncpg.Connection, table: Table, ours: str, merges: Sequence[Merge], renames: Renames
) -> Victims | None:
    """The rows of ``table`` that belong to the business (``ours``: boolean SQL over the live row ``l``) and that no
    stage of ``merges`` has. None where there are none. Without an identity, as many of each content as are too many.
    """
    identity = merges[0].identity if merges else table.identity
    name = victims_name(table)
    by_key = identity or not merges
    select = _keyed(table, identity, ours, merges, renames) if by_key else _keyless(table, ours, merges)
    if not await connection.fetchval(f"SELECT EXISTS ({select})"):
        return None
    await connection.execute(f"CREATE TEMP TABLE {quote(name)} ON COMMIT DROP AS {select}")
    shown = f"ROW({column_list(identity or (c.name for c in table.stored_columns), 'l')})::text"
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, (array_agg({shown} ORDER BY {shown}))[1:{_EXAMPLES}] AS examples, "
        f"sum(hashtextextended(ROW(l.*)::text, 0)::numeric)::text AS mark "
        f"FROM pg_temp.{quote(name)} v JOIN {qualified(table)} l ON l.ctid = v.{TID}"
    )
    assert row is not None
    return Victims(table, row["rows"], tuple(row["examples"]), row["mark"])


def _keyed(table: Table, identity: tuple[str, ...], ours: str, merges: Sequence[Merge], renames: Renames) -> str:
    reading = renames.reading(table)
    rows, key = f"{qualified(table)} l", "l"
    if reading:
        rows, key = f"{rows} JOIN {reading} r ON r.ctid = l.ctid", "r"
    kept = "".join(
        f" AND NOT EXISTS (SELECT FROM {merge.stage.relation} s WHERE {merge.same_row(key, 's')})" for merge in merges
    )
    columns = f", {column_list(identity, key)}" if identity else ""
    return f"SELECT l.ctid AS {TID}{columns} FROM {rows} WHERE ({ours}){kept}"


def _keyless(table: Table, ours: str, merges: Sequence[Merge]) -> str:
    compared = merges[0].compared
    content = f"ROW({column_list(compared, 'l')})::text"
    staged = " UNION ALL ".join(
        f"SELECT ROW({column_list(compared, 's')})::text AS content FROM {merge.stage.relation} s" for merge in merges
    )
    return (
        f"SELECT l.{TID} FROM (SELECT l.ctid AS {TID}, {content} AS content, "
        f"row_number() OVER (PARTITION BY {content}) AS place FROM {qualified(table)} l WHERE {ours}) l "
        f"LEFT JOIN (SELECT content, count(*) AS rows FROM ({staged}) each GROUP BY 1) s ON s.content = l.content "
        "WHERE l.place > coalesce(s.rows, 0)"
    )


async def in_the_way(
    connection: asyncpg.Connection,
    child: Table,
    edge: NeedEdge,
    parent: Victims,
    own: Victims | None,
    merges: Sequence[Merge],
) -> InTheWay | None:
    """Rows of ``child`` that refer by ``edge`` to victims, are none themselves, and will not become as the bundle's."""
    pairs = zip(edge.columns, edge.parent_columns, strict=True)
    refers = " AND ".join(f"c.{quote(ours)} = p.{quote(theirs)}" for ours, theirs in pairs)
    conditions = [f"c.ctid NOT IN (SELECT {TID} FROM {own.relation})"] if own else []
    for merge in merges:
        if merge.stub or not merge.identity:
            continue
        if merge.reading:
            same = f"r.ctid = c.ctid AND {merge.same_row('r', 's')}"
            conditions.append(f"NOT EXISTS (SELECT FROM {merge.rows} r JOIN {merge.stage.relation} s ON {same})")
        else:
            conditions.append(f"NOT EXISTS (SELECT FROM {merge.stage.relation} s WHERE {merge.same_row('c', 's')})")
    key = child.identity or tuple(column.name for column in child.stored_columns)
    shown = f"ROW({column_list(key, 'c')})::text"
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, (array_agg({shown} ORDER BY {shown}))[1:{_EXAMPLES}] AS examples "
        f"FROM {parent.relation} v JOIN {qualified(parent.table)} p ON p.ctid = v.{TID} JOIN {qualified(child)} c "
        f"ON {refers} WHERE {' AND '.join(conditions) or 'true'}"
    )
    assert row is not None
    if not row["rows"]:
        return None
    return InTheWay(child.name, edge.columns, parent.table.name, row["rows"], tuple(row["examples"]))


def going(victims: Victims) -> str:
    """A FROM clause with the live rows ``l`` that go, before anything is written."""
    return f"{victims.relation} v JOIN {qualified(victims.table)} l ON l.ctid = v.{TID}"


async def delete_now(connection: asyncpg.Connection, victims: Victims) -> int:
    """Delete rows that nothing can refer to, by their addresses: before anything else is written."""
    status = await connection.execute(
        f"DELETE FROM {qualified(victims.table)} WHERE ctid IN (SELECT {TID} FROM {victims.relation})"
    )
    return int(status.rpartition(" ")[2])


async def delete_rows(
    connection: asyncpg.Connection, several: Sequence[Victims], identities: Mapping[str, tuple[str, ...]]
) -> dict[str, int]:
    """Delete the victims of these tables in one statement, by identity; returns how many of each table."""
    parts = []
    for victims in several:
        same = " AND ".join(f"l.{quote(name)} = v.{quote(name)}" for name in identities[victims.table.name])
        parts.append(f"DELETE FROM {qualified(victims.table)} l USING {victims.relation} v WHERE {same} RETURNING 1")
    named = ", ".join(f"t{place} AS ({part})" for place, part in enumerate(parts))
    counts = ", ".join(f"(SELECT count(*) FROM t{place})" for place, _ in enumerate(parts))
    row = await connection.fetchrow(f"WITH {named} SELECT {counts}")
    assert row is not None
    return {victims.table.name: rows for victims, rows in zip(several, row.values(), strict=True)}
