"""Same thing, other id: the local row takes the bundle's id, and all that refers to it follows (DESIGN section 5).

A :class:`Rename` is a temporary table of old and new ids of one table. It is found without writing: until the ids are
really changed, the live rows are read through it (:func:`reading`), so plan and apply see the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from agent.database.merge import Merge
from agent.database.merge_keys import key_parts, key_side, part_names, same_key
from agent.database.names import column_list, qualified, quote
from agent.tables.identity import IdColumn
from agent.tables.schema import Column, Table, UniqueKey

_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Rename:
    """Ids of ``table``'s rows that change: ``relation`` has them as ``old`` and ``new``."""

    table: Table
    column: str
    rows: int
    examples: tuple[tuple[str, str], ...]
    fingerprint: str

    @property
    def name(self) -> str:
        return rename_name(self.table)

    @property
    def relation(self) -> str:
        return f"pg_temp.{quote(self.name)}"


@dataclass(frozen=True, slots=True)
class Unclear:
    """Rows of the bundle of which it cannot be said which row here they are. ``examples`` pair bundle's id and ours."""

    table: str
    columns: tuple[str, ...]
    rows: int
    examples: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Renames:
    """The renames found so far, by table, and the columns that hold ids."""

    ids: Mapping[str, tuple[IdColumn, ...]]
    found: dict[str, Rename] = field(default_factory=dict)

    def reading(self, table: Table) -> str:
        """A relation like the table, with the ids as they will be; "" where nothing in it changes."""
        own = self.found.get(table.name)
        holds = {each.column: (self.found[each.parent], each.array) for each in self.following(table.name)}
        if own is not None:
            holds[own.column] = (own, False)
        if not holds:
            return ""
        columns, joins = [], ""
        for place, column in enumerate(table.columns):
            name, value = quote(column.name), f"t.{quote(column.name)}"
            if column.name in holds:
                rename, array = holds[column.name]
                if array:
                    value = f"{_array(rename, value, column)}::{column.type}"
                else:
                    joins += f" LEFT JOIN {rename.relation} r{place} ON r{place}.old = {value}"
                    value = f"coalesce(r{place}.new, {value})::{column.type}"
            columns.append(f"{value} AS {name}")
        return f"(SELECT t.ctid AS ctid, {', '.join(columns)} FROM {qualified(table)} t{joins})"

    def following(self, table: str) -> tuple[IdColumn, ...]:
        """The columns of the table that hold ids which change."""
        return tuple(each for each in self.ids[table] if each.parent in self.found)

    def changed(self, table: Table, alias: str) -> str:
        """Boolean SQL: the live row ``alias`` has an id that changes, its own or another's; "" where none has."""
        conditions = []
        for each in self.following(table.name):
            olds, column = f"SELECT old FROM {self.found[each.parent].relation}", table.column(each.column)
            kind = column.type if column else "text[]"
            held = f"&& ARRAY({olds})::{kind}" if each.array else f"IN ({olds})"
            conditions.append(f"{alias}.{quote(each.column)} {held}")
        own = self.found.get(table.name)
        if own is not None:
            conditions.append(f"{alias}.{quote(own.column)} IN (SELECT old FROM {own.relation})")
        return " OR ".join(f"coalesce({condition}, false)" for condition in conditions)

    def renamed(self, table: Table, column: str, alias: str) -> str:
        """SQL: what the column of the live row ``alias`` will hold."""
        own = self.found.get(table.name)
        holds = {each.column: self.found[each.parent] for each in self.following(table.name) if not each.array}
        if own is not None:
            holds[own.column] = own
        value = f"{alias}.{quote(column)}"
        if column not in holds:
            return value
        return f"coalesce((SELECT r.new FROM {holds[column].relation} r WHERE r.old = {value}), {value})"


def rename_name(table: Table) -> str:
    """The name of the temporary table with the old and new ids of a table's rows."""
    return f"backroom_rename_{table.name}"[:63]


def _array(rename: Rename, value: str, column: Column) -> str:
    mapped = (
        f"SELECT coalesce(r.new, e.id) FROM unnest({value}) WITH ORDINALITY e(id, place) "
        f"LEFT JOIN {rename.relation} r ON r.old = e.id ORDER BY e.place"
    )
    olds = f"ARRAY(SELECT old FROM {rename.relation})::{column.type}"
    return f"CASE WHEN {value} && {olds} THEN ARRAY({mapped}) ELSE {value} END"


async def find_renames(
    connection: asyncpg.Connection,
    merge: Merge,
    keys: Sequence[UniqueKey],
    renames: Renames,
    *,
    by_nature: bool,
    numbered: bool,
) -> tuple[Rename | None, tuple[Unclear, ...]]:
    """The local rows that are the same thing as staged rows under another id.

    ``merge`` reads its live rows with all renames found so far. ``by_nature``: the keys say which row it is, also
    where an id is on both sides; else an id that both sides have is the same row. ``numbered``: ids are numbers that
    each database gives, so a row here that has the id of another thing makes way for it. Adds to ``renames``.
    """
    table, (key,) = merge.stage.table, merge.identity
    pairs = await _pairs(connection, merge, keys, by_nature, numbered)
    if pairs is None:
        return None, ()
    unclear = await _unclear(connection, merge, pairs)
    name = rename_name(table)
    known = renames.found.get(table.name)
    clear = (
        f"SELECT old, new FROM {pairs} p WHERE (SELECT count(*) FROM {pairs} o WHERE o.new = p.new) = 1 "
        f"AND (SELECT count(*) FROM {pairs} o WHERE o.old = p.old) = 1"
    )
    if known is None:
        await connection.execute(
            f"DROP TABLE IF EXISTS pg_temp.{quote(name)}; CREATE TEMP TABLE {quote(name)} ON COMMIT DROP AS {clear}; "
            f"ALTER TABLE pg_temp.{quote(name)} ADD PRIMARY KEY (old)"
        )
    else:
        await connection.execute(f"INSERT INTO pg_temp.{quote(name)} {clear}")
    await connection.execute(f"DROP TABLE {pairs}")
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, (array_agg(old::text ORDER BY old))[1:{_EXAMPLES}] AS old, "
        f"(array_agg(new::text ORDER BY old))[1:{_EXAMPLES}] AS new, "
        f"coalesce(sum(hashtextextended(ROW(old, new)::text, 0)::numeric), 0)::text AS mark FROM pg_temp.{quote(name)}"
    )
    assert row is not None
    rename = None
    if row["rows"]:
        examples = tuple(zip(row["old"], row["new"], strict=True))
        rename = renames.found[table.name] = Rename(table, key, row["rows"], examples, row["mark"])
    return rename, unclear


async def _pairs(
    connection: asyncpg.Connection, merge: Merge, keys: Sequence[UniqueKey], by_nature: bool, numbered: bool
) -> str | None:
    """A temporary table of staged and live ids that meet by one of the keys; None where there are none."""
    (key,) = (quote(name) for name in merge.identity)
    lone = [] if by_nature else [f"NOT EXISTS (SELECT FROM {merge.rows} o WHERE o.{key} = s.{key})"]
    needed = dict.fromkeys([*merge.identity, *(name for each in keys for name in each.columns)])
    columns = column_list(needed if all(each.plain for each in keys) else merge.stage.written, "s")
    fresh = f"(SELECT s.ctid AS ctid, {columns} FROM {merge.stage.relation} s WHERE {lone[0] if lone else 'true'})"
    selects = []
    for unique in keys:
        parts = await key_parts(connection, merge.stage.table, unique)
        names = part_names(parts)
        staged = key_side(merge, unique, parts, "fresh", "true")
        live = key_side(merge, unique, parts, f"{merge.rows} l", "true")
        same = same_key(unique, names)
        given = " OR ".join(f"s.{quote(name)} IS NOT NULL" for name in names)
        selects.append(f"SELECT s.{key} AS new, l.{key} AS old FROM {staged} s JOIN {live} l ON {same} AND ({given})")
    # A row that meets itself is not looked for elsewhere, though another may be the same in these columns.
    settled = "SELECT q.new FROM met q WHERE q.new = q.old"
    where = f"p.new <> p.old AND p.new NOT IN ({settled}) AND p.old NOT IN ({settled})"
    if not by_nature:
        where += f" AND NOT EXISTS (SELECT FROM {merge.stage.relation} o WHERE o.{key} = p.old)"
    relation = "pg_temp.backroom_pairs"
    query = (
        f"WITH fresh AS MATERIALIZED {fresh}, met AS MATERIALIZED ({' UNION '.join(selects)}) "
        f"SELECT new, old FROM met p WHERE {where}"
    )
    if numbered:
        # Above all numbers that are in use or come with the bundle.
        query = (
            f"WITH sure AS ({query}), taken AS (SELECT greatest((SELECT max(l.{key}) FROM {merge.rows} l), "
            f"(SELECT max(s.{key}) FROM {merge.stage.relation} s)) AS top) SELECT new, old FROM sure UNION ALL "
            f"SELECT (SELECT top FROM taken) + row_number() OVER (ORDER BY l.{key}), l.{key} FROM {merge.rows} l "
            f"JOIN {merge.stage.relation} s ON s.{key} = l.{key} AND NOT ({_same_thing(keys)}) "
            f"WHERE l.{key} NOT IN (SELECT old FROM sure)"
        )
    if not await connection.fetchval(f"SELECT EXISTS ({query})"):
        return None
    await connection.execute(f"CREATE TEMP TABLE backroom_pairs ON COMMIT DROP AS {query}")
    return relation


def _same_thing(keys: Sequence[UniqueKey]) -> str:
    """Boolean SQL: the rows ``s`` and ``l`` have one of the keys, so far as it is made of whole columns."""
    plain = [
        f"ROW({column_list(k.columns, 's')})::text = ROW({column_list(k.columns, 'l')})::text"
        for k in keys
        if k.columns
    ]
    return " OR ".join(plain) or "true"


async def _unclear(connection: asyncpg.Connection, merge: Merge, pairs: str) -> tuple[Unclear, ...]:
    """Pairs of which one side meets several, or whose new id is another row's here that keeps it."""
    (key,) = (quote(name) for name in merge.identity)
    rows = await connection.fetch(
        f"SELECT p.new::text AS new, p.old::text AS old FROM {pairs} p WHERE "
        f"(SELECT count(*) FROM {pairs} o WHERE o.new = p.new) > 1 "
        f"OR (SELECT count(*) FROM {pairs} o WHERE o.old = p.old) > 1 "
        f"OR (EXISTS (SELECT FROM {merge.rows} l WHERE l.{key} = p.new) "
        f"AND NOT EXISTS (SELECT FROM {pairs} o WHERE o.old = p.new)) ORDER BY 1, 2"
    )
    if not rows:
        return ()
    examples = tuple((row["new"], row["old"]) for row in rows[:_EXAMPLES])
    return (Unclear(merge.stage.table.name, merge.identity, len({row["new"] for row in rows}), examples),)
