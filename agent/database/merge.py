"""Meeting of staged rows and live rows: what becomes of each, decided by one join per table (DESIGN section 5).

The verdict table of a stage names every staged row that is not simply equal to its live row, by its address in the
stage. Plan and apply read the same verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from agent.database.names import column_list, qualified, quote
from agent.database.scalars import scalars
from agent.database.staging import Stage
from agent.tables.schema import Table


class Conflicts(StrEnum):
    """Which row wins where the bundle's and the live one differ: the one changed later, the bundle's, the local one."""

    NEWER = "newer"
    BUNDLE = "bundle"
    LOCAL = "local"


class Verdict(StrEnum):
    """What becomes of a staged row. Equal rows have no verdict."""

    INSERT = "insert"
    UPDATE = "update"
    UNDATED = "undated"  # an update that won without a usable timestamp
    KEPT = "kept"
    STUB = "stub"
    RAISED = "raised"  # an update of the counters alone: the row here wins, or is equal but for them


# Long enough for every verdict. Text without a limit would give each of these tables two more for what is too long.
_SHORT = "varchar(10)"

WRITTEN = (Verdict.INSERT, Verdict.UPDATE, Verdict.UNDATED)
UPDATES = (Verdict.UPDATE, Verdict.UNDATED)


@dataclass(frozen=True, slots=True)
class Merge:
    """How one stage meets its table.

    ``identity`` tells rows apart; without one, whole rows are counted. ``compared`` are the columns that decide
    whether two rows differ, and that an update sets (references to device rows are not among them). ``clock`` is the
    column that says when a row was changed. ``stub`` rows are only ever inserted. Of ``greatest`` columns the greater
    value stays, whichever row wins.

    ``reading`` is what the live rows are read from, where ids change before the rows are written: the table as it
    will be then. A ``fresh`` merge meets a table without rows: every staged row is new, and nothing has to be joined.
    """

    stage: Stage
    identity: tuple[str, ...]
    compared: tuple[str, ...]
    clock: str | None
    conflicts: Conflicts
    stub: bool
    greatest: tuple[str, ...] = ()
    reading: str = ""
    fresh: bool = False

    @property
    def verdicts(self) -> str:
        return f"pg_temp.backroom_verdict_{self.stage.index}"

    @property
    def live(self) -> str:
        return qualified(self.stage.table)

    @property
    def rows(self) -> str:
        """The live rows to compare with, for a FROM clause."""
        return self.reading or self.live

    def chosen(self, *verdicts: Verdict, alias: str = "s") -> str:
        """Boolean SQL: the staged row ``alias`` has one of these verdicts."""
        if self.fresh:
            return "true" if Verdict.INSERT in verdicts else "false"
        return f"{alias}.ctid IN (SELECT v.staged FROM {self.verdicts} v WHERE {_among(verdicts, 'v')})"

    def same_row(self, live: str = "l", staged: str = "s") -> str:
        """Boolean SQL: the live and the staged row are one row."""
        return _equal(self.identity, live, staged)


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows by verdict, and a fingerprint over identity and present content of each, whatever their order; without them
    where all rows are new to the table, since the plan says of which bundle they are."""

    rows: Mapping[Verdict, int]
    fingerprint: str


async def empty_tables(connection: asyncpg.Connection, tables: Iterable[Table]) -> frozenset[str]:
    """The names of those tables that have no row."""
    found = await scalars(connection, {table.name: f"EXISTS (SELECT FROM {qualified(table)})" for table in tables})
    return frozenset(name for name, rows in found.items() if not rows)


async def judge(
    connection: asyncpg.Connection, merges: Sequence[tuple[Merge, int]], *, again: bool = False
) -> dict[int, Judged]:
    """Fill the verdict tables of these merges, each with the number of its staged rows, and count them, by entry;
    ``again`` where the stages have changed since. All are asked at once: most tables are small."""
    found: dict[int, Judged] = {}
    asked: dict[int, Merge] = {}
    made = []
    for merge, staged in merges:
        if merge.fresh:
            new = {Verdict.INSERT: staged} if staged else {}
            found[merge.stage.index] = Judged(new, f"{Verdict.INSERT}:{staged}")
            continue
        asked[merge.stage.index] = merge
        await _raise_counters(connection, merge)
        if again:
            made.append(f"DROP TABLE {merge.verdicts}")
        sql = _keyed_sql(merge) if merge.identity else _keyless_sql(merge)
        made.append(f"CREATE TEMP TABLE backroom_verdict_{merge.stage.index} ON COMMIT DROP AS {sql}")
    if not asked:
        return found
    await connection.execute("; ".join(made))
    counted: dict[int, list[asyncpg.Record]] = {index: [] for index in asked}
    rows = await connection.fetch(
        " UNION ALL ".join(
            f"SELECT {index} AS entry, verdict, count(*) AS rows, sum(mark::numeric)::text AS marks "
            f"FROM {merge.verdicts} GROUP BY 2"
            for index, merge in asked.items()
        )
    )
    for row in sorted(rows, key=lambda row: str(row["verdict"])):
        counted[row["entry"]].append(row)
    for index, of_entry in counted.items():
        found[index] = Judged(
            {Verdict(row["verdict"]): row["rows"] for row in of_entry},
            ";".join(f"{row['verdict']}:{row['rows']}:{row['marks']}" for row in of_entry),
        )
    return found


async def _raise_counters(connection: asyncpg.Connection, merge: Merge) -> None:
    """Raise the staged counters to the live ones, where those are greater."""
    if not merge.greatest or not merge.identity:
        return
    sets = ", ".join(f"{quote(name)} = greatest(s.{quote(name)}, l.{quote(name)})" for name in merge.greatest)
    less = " OR ".join(f"l.{quote(name)} > s.{quote(name)}" for name in merge.greatest)
    await connection.execute(
        f"UPDATE {merge.stage.relation} AS s SET {sets} FROM {merge.rows} l WHERE {merge.same_row()} AND ({less})"
    )


def _keyed_sql(merge: Merge) -> str:
    mark = _mark(_text((*merge.identity, *merge.compared), "l"), _text(merge.identity, "s"))
    return (
        f"SELECT * FROM (SELECT s.ctid AS staged, ({_case(merge)})::{_SHORT} AS verdict, {mark} AS mark "
        f"FROM {merge.stage.relation} s LEFT JOIN {merge.rows} l ON {merge.same_row()}) judged "
        "WHERE verdict IS NOT NULL"
    )


def _case(merge: Merge) -> str:
    """What becomes of a staged row, as a CASE over the staged row ``s`` and the live row ``l``; NULL if equal."""
    missing = f"WHEN l.{quote(merge.identity[0])} IS NULL THEN '{Verdict.INSERT}'"
    if merge.stub:
        return f"CASE {missing} ELSE '{Verdict.STUB}' END"
    if not merge.compared:
        return f"CASE {missing} END"
    staged, live = record(merge.compared, "s"), record(merge.compared, "l")
    equal = f"WHEN NOT {staged} *<> {live} THEN NULL"
    if not merge.greatest:
        return f"CASE {missing} {equal} {_winner(merge, merge.compared)} END"
    others = tuple(name for name in merge.compared if name not in merge.greatest)
    rest = f"WHEN NOT {record(others, 's')} *<> {record(others, 'l')} THEN '{Verdict.RAISED}'" if others else ""
    winner = f"CASE WHEN false THEN NULL {_winner(merge, others)} END" if others else f"'{Verdict.RAISED}'"
    raised = f"{record(merge.greatest, 's')} *<> {record(merge.greatest, 'l')}"
    return (
        f"CASE {missing} {equal} {rest} WHEN {raised} AND coalesce({winner}, '{Verdict.KEPT}') = '{Verdict.KEPT}' "
        f"THEN '{Verdict.RAISED}' ELSE {winner} END"
    )


def _winner(merge: Merge, columns: tuple[str, ...]) -> str:
    """The rest of a CASE over two rows that differ, by the content of ``columns`` where nothing else tells."""
    match merge.conflicts:
        case Conflicts.BUNDLE:
            return f"ELSE '{Verdict.UPDATE}'"
        case Conflicts.LOCAL:
            return f"ELSE '{Verdict.KEPT}'"
        case Conflicts.NEWER:
            return _newer(merge, columns)


def _newer(merge: Merge, compared: tuple[str, ...]) -> str:
    if merge.clock is None:
        return f"ELSE '{Verdict.UNDATED}'"
    theirs, ours = f"s.{quote(merge.clock)}", f"l.{quote(merge.clock)}"
    # At equal times the content decides, in the same way on every laptop; in name order, for columns may be in
    # another order there. Text that is equal though the images differ (a NaN with a sign) is left as it is.
    columns = sorted(compared)
    their_digest, our_digest = (f'md5({_text(columns, alias)}) COLLATE "C"' for alias in ("s", "l"))
    return (
        f"WHEN {theirs} IS NULL OR {ours} IS NULL THEN '{Verdict.UNDATED}' "
        f"WHEN {theirs} > {ours} THEN '{Verdict.UPDATE}' WHEN {theirs} < {ours} THEN '{Verdict.KEPT}' "
        f"WHEN {their_digest} > {our_digest} THEN '{Verdict.UPDATE}' "
        f"WHEN {their_digest} < {our_digest} THEN '{Verdict.KEPT}'"
    )


def _keyless_sql(merge: Merge) -> str:
    """Rows without any identity: as many of each content are inserted as the live table has fewer."""
    staged, live = _text(merge.compared, "s"), _text(merge.compared, "l")
    return (
        f"SELECT s.staged, '{Verdict.INSERT}'::{_SHORT} AS verdict, {_mark('s.content')} AS mark FROM "
        f"(SELECT s.ctid AS staged, {staged} AS content, row_number() OVER (PARTITION BY {staged}) AS place "
        f"FROM {merge.stage.relation} s) s "
        f"LEFT JOIN (SELECT {live} AS content, count(*) AS rows FROM {merge.rows} l GROUP BY 1) l "
        "ON l.content = s.content WHERE s.place > coalesce(l.rows, 0)"
    )


def record(columns: tuple[str, ...] | list[str], alias: str) -> str:
    """The columns as one record. The cast keeps PostgreSQL from comparing column by column, for which json and point
    have no operators: records compare by their image, so that even the scale of a numeric counts."""
    return f"ROW({column_list(columns, alias)})::record"


def _text(columns: tuple[str, ...] | list[str], alias: str) -> str:
    return f"ROW({column_list(columns, alias)})::text" if columns else "''"


def _mark(*texts: str) -> str:
    return f"hashtextextended({' || '.join(texts)}, 0)"


def _equal(columns: tuple[str, ...], left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quote(name)} = {right}.{quote(name)}" for name in columns)


def _among(verdicts: tuple[Verdict, ...], alias: str) -> str:
    return f"{alias}.verdict IN ({', '.join(repr(str(verdict)) for verdict in verdicts)})"
