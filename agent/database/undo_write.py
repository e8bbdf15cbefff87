"""Taking a restore back: kept rows meet the rows as they are now, and are put back set by set (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from agent.database.names import column_list, literal, qualified, quote
from agent.database.scalars import scalars
from agent.database.undo import MARK, NOW, WHAT, Change, mark, new_rows, stored
from agent.tables.schema import ForeignKey, Table


class Fate(StrEnum):
    """What becomes of a kept row."""

    DELETE = "delete"  # the restore inserted it: it goes
    REVERT = "revert"  # the restore updated it: it becomes as it was
    RETURN = "return"  # the restore deleted it: it comes back
    CHANGED = "changed"  # somebody has changed the row since
    GONE = "gone"  # the restore inserted it, and somebody has deleted it since


@dataclass(frozen=True, slots=True)
class Kept:
    """One undo entry in its temporary table."""

    index: int
    table: Table

    @property
    def name(self) -> str:
        return f"backroom_kept_{self.index}"

    @property
    def relation(self) -> str:
        return f"pg_temp.{quote(self.name)}"

    @property
    def fates(self) -> str:
        return f"pg_temp.backroom_fate_{self.index}"

    def now(self, alias: str) -> tuple[str, ...]:
        return tuple(f"{alias}.{quote(f'{NOW}{place}')}" for place, _ in enumerate(self.table.identity))

    def same_row(self, live: str = "l", kept: str = "k") -> str:
        """Boolean SQL: the live row is the kept one as the restore left it."""
        pairs = zip(self.table.identity, self.now(kept), strict=True)
        return " AND ".join(f"{live}.{quote(name)} = {now}" for name, now in pairs)

    def fated(self, *fates: Fate) -> str:
        """A FROM clause with the kept rows ``k`` of these fates."""
        among = ", ".join(literal(fate) for fate in fates)
        return f"{self.relation} k JOIN {self.fates} f ON f.kept = k.ctid AND f.fate IN ({among})"


async def create_kept(connection: asyncpg.Connection, kept: Kept) -> None:
    """Make the temporary table for the rows of one undo entry."""
    keys = "".join(f", l.{quote(name)} AS {quote(f'{NOW}{place}')}" for place, name in enumerate(kept.table.identity))
    await connection.execute(
        f"CREATE TEMP TABLE {quote(kept.name)} ON COMMIT DROP AS SELECT NULL::text AS {quote(WHAT)}, "
        f"NULL::bigint AS {quote(MARK)}{keys}, {column_list(stored(kept.table), 'l')} "
        f"FROM {qualified(kept.table)} l WITH NO DATA"
    )


async def create_brought(connection: asyncpg.Connection, kept: Kept) -> str:
    """Make a temporary table for rows that are kept as they came, all of them inserted; returns its name."""
    name = f"backroom_brought_{kept.index}"
    await connection.execute(
        f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {column_list(stored(kept.table), 'l')} "
        f"FROM {qualified(kept.table)} l WITH NO DATA"
    )
    return name


async def keep_brought(connection: asyncpg.Connection, kept: Kept) -> None:
    """Bring such rows into the form of all others: what was done to them, their mark and their key."""
    await connection.execute(
        f"INSERT INTO {kept.relation} {new_rows(kept.table, f'pg_temp.backroom_brought_{kept.index} l')}; "
        f"DROP TABLE pg_temp.backroom_brought_{kept.index}"
    )


async def inserted(connection: asyncpg.Connection, several: Iterable[Kept]) -> frozenset[str]:
    """The tables, by name, into which the restore inserted rows."""
    asked = {
        kept.table.name: f"EXISTS (SELECT FROM {kept.relation} WHERE {quote(WHAT)} = {literal(Change.INSERTED)})"
        for kept in several
    }
    return frozenset(name for name, some in (await scalars(connection, asked)).items() if some)


async def decide(connection: asyncpg.Connection, kept: Kept, *, overwrite: bool) -> dict[Fate, int]:
    """Decide on every kept row and count. With ``overwrite`` rows that changed since are taken back all the same."""
    sql = _keyed(kept, overwrite) if kept.table.identity else _keyless(kept)
    await connection.execute(f"CREATE TEMP TABLE backroom_fate_{kept.index} ON COMMIT DROP AS {sql}")
    rows = await connection.fetch(f"SELECT fate, count(*) AS rows FROM {kept.fates} GROUP BY 1")
    return {Fate(row["fate"]): row["rows"] for row in rows}


def _keyed(kept: Kept, overwrite: bool) -> str:
    first = f"l.{quote(kept.table.identity[0])}"
    unchanged = f"k.{quote(MARK)} = {mark(kept.table, 'l')}"
    held = "true" if overwrite else unchanged
    missing = Fate.RETURN if overwrite else Fate.CHANGED
    present = Fate.REVERT if overwrite else Fate.CHANGED
    return (
        f"SELECT k.ctid AS kept, CASE k.{quote(WHAT)} "
        f"WHEN {literal(Change.INSERTED)} THEN CASE WHEN {first} IS NULL THEN {literal(Fate.GONE)} "
        f"WHEN {held} THEN {literal(Fate.DELETE)} ELSE {literal(Fate.CHANGED)} END "
        f"WHEN {literal(Change.UPDATED)} THEN CASE WHEN {first} IS NULL THEN {literal(missing)} "
        f"WHEN {held} THEN {literal(Fate.REVERT)} ELSE {literal(Fate.CHANGED)} END "
        f"ELSE CASE WHEN {first} IS NULL THEN {literal(Fate.RETURN)} ELSE {literal(present)} END END AS fate "
        f"FROM {kept.relation} k LEFT JOIN {qualified(kept.table)} l ON {kept.same_row()}"
    )


def _keyless(kept: Kept) -> str:
    """Rows without identity are never updated: inserted ones go, as many of each content as are still there."""
    content = f"ROW({column_list(stored(kept.table), 'l')})::text"
    ours = f"ROW({column_list(stored(kept.table), 'k')})::text"
    return (
        f"SELECT k.kept, CASE WHEN k.what = {literal(Change.DELETED)} THEN {literal(Fate.RETURN)} "
        f"WHEN k.place <= coalesce(l.rows, 0) THEN {literal(Fate.DELETE)} ELSE {literal(Fate.GONE)} END AS fate FROM "
        f"(SELECT k.ctid AS kept, k.{quote(WHAT)} AS what, {ours} AS content, "
        f"row_number() OVER (PARTITION BY k.{quote(WHAT)}, {ours}) AS place "
        f"FROM {kept.relation} k) k LEFT JOIN "
        f"(SELECT {content} AS content, count(*) AS rows FROM {qualified(kept.table)} l GROUP BY 1) l "
        "ON l.content = k.content"
    )


async def changed_keys(connection: asyncpg.Connection, kept: Kept, most: int) -> tuple[str, ...]:
    """The keys, as text, of some rows that somebody has changed since."""
    if not kept.table.identity:
        return ()
    rows = await connection.fetch(
        f"SELECT ROW({', '.join(kept.now('k'))})::text AS key FROM {kept.fated(Fate.CHANGED)} ORDER BY 1 LIMIT {most}"
    )
    return tuple(row["key"] for row in rows)


async def count_held(
    connection: asyncpg.Connection,
    child: Table,
    key: ForeignKey,
    parent: Kept,
    own: Kept | None,
    but: Sequence[Fate],
) -> int:
    """Live rows of ``child`` that refer to rows of ``parent`` that are to go, but for those with fates ``but``."""
    pairs = list(zip(key.columns, key.references_columns, strict=True))
    refers = " AND ".join(f"c.{quote(ours)} = l.{quote(theirs)}" for ours, theirs in pairs)
    others = ""
    if own is not None and child.identity:
        others = f" AND NOT EXISTS (SELECT FROM {own.fated(*but)} WHERE {own.same_row('c')})"
    going = f"{parent.fated(Fate.DELETE)} JOIN {qualified(parent.table)} l ON {parent.same_row()}"
    held = int(
        await connection.fetchval(
            f"SELECT count(*) FROM {going} JOIN {qualified(child)} c ON {refers} WHERE true{others}"
        )
    )
    if held and own is not None and not child.identity:
        # Rows without identity go by number: as many as are kept with that fate.
        leaving = f"(SELECT k.* FROM {own.fated(Fate.DELETE)}) c"
        held -= int(await connection.fetchval(f"SELECT count(*) FROM {going} JOIN {leaving} ON {refers}"))
    return held


def going_rows(kept: Kept) -> str:
    """A FROM clause with the live rows ``l`` that are to go; without a key, the kept rows, which are the same."""
    if not kept.table.identity:
        return _kept_as_live(kept, Fate.DELETE)
    return f"{kept.fated(Fate.DELETE)} JOIN {qualified(kept.table)} l ON {kept.same_row()}"


def reverting_rows(kept: Kept) -> str:
    """A FROM clause with the live rows ``l`` that become as they were, and their kept rows ``k``."""
    return f"{kept.fated(Fate.REVERT)} JOIN {qualified(kept.table)} l ON {kept.same_row()}"


def returned_rows(kept: Kept) -> str:
    """A FROM clause with the live rows ``l`` that came back, once they have; without a key, the kept rows."""
    if not kept.table.identity:
        return _kept_as_live(kept, Fate.RETURN)
    same = " AND ".join(f"l.{quote(name)} = k.{quote(name)}" for name in kept.table.identity)
    return f"{kept.fated(Fate.RETURN)} JOIN {qualified(kept.table)} l ON {same}"


def _kept_as_live(kept: Kept, fate: Fate) -> str:
    return f"{kept.relation} l JOIN {kept.fates} f ON f.kept = l.ctid AND f.fate = {literal(fate)}"


async def delete_rows(connection: asyncpg.Connection, kept: Kept) -> int:
    """Delete the rows that the restore inserted; returns how many."""
    live = qualified(kept.table)
    if kept.table.identity:
        return _affected(
            await connection.execute(f"DELETE FROM {live} l USING {kept.fated(Fate.DELETE)} WHERE {kept.same_row()}")
        )
    ours, content = (f"ROW({column_list(stored(kept.table), alias)})::text" for alias in ("k", "l"))
    return _affected(
        await connection.execute(
            f"DELETE FROM {live} WHERE ctid IN (SELECT l.place FROM (SELECT l.ctid AS place, {content} AS content, "
            f"row_number() OVER (PARTITION BY {content}) AS number FROM {live} l) l JOIN "
            f"(SELECT {ours} AS content, count(*) AS rows FROM {kept.fated(Fate.DELETE)} GROUP BY 1) k "
            "ON k.content = l.content WHERE l.number <= k.rows)"
        )
    )


async def return_rows(connection: asyncpg.Connection, several: Sequence[Kept]) -> int:
    """Insert the rows that the restore deleted into these tables, in one statement; returns how many."""
    parts = []
    for kept in several:
        overriding = " OVERRIDING SYSTEM VALUE" if any(column.identity for column in kept.table.columns) else ""
        parts.append(
            f"INSERT INTO {qualified(kept.table)} ({column_list(stored(kept.table))}){overriding} "
            f"SELECT {column_list(stored(kept.table), 'k')} FROM {kept.fated(Fate.RETURN)}"
        )
    if len(parts) == 1:
        return _affected(await connection.execute(parts[0]))
    named = ", ".join(f"t{place} AS ({part} RETURNING 1)" for place, part in enumerate(parts))
    counts = " + ".join(f"(SELECT count(*) FROM t{place})" for place, _ in enumerate(parts))
    return int(await connection.fetchval(f"WITH {named} SELECT {counts}"))


async def revert_rows(connection: asyncpg.Connection, kept: Kept) -> int:
    """Give rows that the restore updated their content back, key included; returns how many."""
    fixed = {column.name for column in kept.table.columns if column.identity == "a"}
    names = [name for name in stored(kept.table) if name not in fixed]
    sets = ", ".join(f"{quote(name)} = k.{quote(name)}" for name in names)
    return _affected(
        await connection.execute(
            f"UPDATE {qualified(kept.table)} AS l SET {sets} FROM {kept.fated(Fate.REVERT)} WHERE {kept.same_row()}"
        )
    )


def _affected(status: str) -> int:
    return int(status.rpartition(" ")[2])
