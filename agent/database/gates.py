"""The gates that end every backup, each a query over the finished scope (DESIGN section 2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from agent.database.names import column_list, qualified, quote
from agent.database.ownership import NEVER
from agent.database.scalars import scalars
from agent.database.scope import REFERENCES_TABLE, SCOPE_TABLE, How, Scope, Source
from agent.tables.catalogue import TableClass
from agent.tables.scope import NeedEdge

# Questions about so few rows are put in one statement: their tables for joins are small together, too.
_FEW_LINES = 10_000
_AT_ONCE = 8  # references to look at in one query: the planner tries that many joins in any order


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found: a table, the columns, how many rows, and what is wrong with them."""

    gate: str
    table: str
    columns: tuple[str, ...]
    rows: int
    what: str

    def __str__(self) -> str:
        where = f"{self.table}.{'+'.join(self.columns)}" if self.columns else self.table
        return f"{where}: {self.rows} row{'' if self.rows == 1 else 's'} {self.what}"


def _all_set(edge: NeedEdge, alias: str) -> str:
    return " AND ".join(f"{alias}.{quote(column)} IS NOT NULL" for column in edge.columns)


async def closure(connection: asyncpg.Connection, scope: Scope, *, unclassified: bool = False) -> list[Finding]:
    """Included rows that refer to a row which exists and is neither included nor a device row.

    ``unclassified`` says that unclassified tables are in the backup too, in their own section.
    """
    findings = []
    for edge in await _suspects(connection, scope):
        rows = await _total(connection, [_missing_sql(scope, edge, child) for child in scope.sources(edge.child, "c")])
        what = f"refer to rows of {edge.parent} that are not included"
        findings += [Finding("closure", edge.child, edge.columns, rows, what)] if rows else []
    for edge in scope.rules.outside:
        target = scope.classification.rule(edge.parent).table_class
        if _may_stay_behind(target, edge, unclassified):
            continue
        sources = scope.sources(edge.child, "c")
        rows = await _total(
            connection, [f"SELECT count(*) FROM {child.where(_all_set(edge, 'c'))}" for child in sources]
        )
        what = f"refer to {edge.parent}, which is {target} and does not travel"
        findings += [Finding("closure", edge.child, edge.columns, rows, what)] if rows else []
    return findings


async def _suspects(connection: asyncpg.Connection, scope: Scope) -> list[NeedEdge]:
    """The references that some included row does not find among the included rows.

    Rows without a line are asked by the values that the walk has kept of them, else all of a table in one pass, which
    counts the rows, too: the manifest needs their number.
    """
    edges: dict[str, list[NeedEdge]] = defaultdict(list)
    included = await _all_included(connection, scope)
    for edge in scope.rules.needs:
        if scope.scoped(edge.parent) and edge.parent not in included:
            edges[edge.child].append(edge)
    by_values: dict[NeedEdge, str] = {}
    by_rows: dict[tuple[tuple[NeedEdge, ...], bool], str] = {}
    answers: dict[tuple[tuple[NeedEdge, ...], bool], list[int]] = {}
    for child, of_child in edges.items():
        decides = _decides(scope, child, "c")
        for source in scope.sources(child, "c"):
            begun = source == scope.begun(child, "c")
            found = [edge for edge in of_child if not begun or edge != decides]
            if begun:
                by_values |= {edge: _lacking_values_sql(scope, edge) for edge in found if _kept(scope, edge)}
                found = [edge for edge in found if not _kept(scope, edge)]
            for several in (tuple(found[start : start + _AT_ONCE]) for start in range(0, len(found), _AT_ONCE)):
                asked = _lacking_sql(scope, several, source)
                if _few(scope, child, begun):
                    by_rows[several, begun] = asked
                else:
                    answers |= await scalars(connection, {(several, begun): asked})
    answers |= await scalars(connection, by_rows)
    suspects: list[NeedEdge] = []
    for (several, begun), (all_rows, *missing) in answers.items():
        suspects += [edge for edge, rows in zip(several, missing, strict=True) if rows]
        if begun:
            scope.begun_rows[several[0].child] = all_rows
    suspects += [edge for edge, values in (await _scalars_by_index(connection, by_values)).items() if values]
    return list(dict.fromkeys(suspects))


async def _scalars_by_index(connection: asyncpg.Connection, asked: Mapping[NeedEdge, str]) -> dict[NeedEdge, Any]:
    """Answers about few values. The planner takes pages for far apart and reads a whole large table instead; they are
    near: a backup has just read the table, or will.
    """
    await connection.execute("SET LOCAL random_page_cost = 1.1")
    found = await scalars(connection, asked)
    await connection.execute("SET LOCAL random_page_cost TO DEFAULT")
    return found


async def _all_included(connection: asyncpg.Connection, scope: Scope) -> set[str]:
    """Of the tables of which the walk says that no row is left out those of which it is true, told by their number: no
    reference to them is in want of a row."""
    asked = {}
    for table in scope.all_own:
        sources = [f"(SELECT count(*) FROM {source.where()})" for source in scope.sources(table)]
        asked[table] = f"(SELECT count(*) FROM {qualified(scope.schema.tables[table])}) = {' + '.join(sources) or '0'}"
    return {table for table, same in (await scalars(connection, asked)).items() if same}


def _few(scope: Scope, table: str, begun: bool) -> bool:
    """Whether the rows of a table, those without a line or those with one, are so few that questions about them are put
    together. Of a table that the server has no numbers of, nobody knows."""
    if not begun:
        return scope.lines[table] < _FEW_LINES
    rows = scope.begun_rows.get(table, 0) or scope.schema.tables[table].estimated_rows
    return 0 < rows < _FEW_LINES


def _kept(scope: Scope, edge: NeedEdge) -> bool:
    return (edge.child, edge.columns) in scope.references


def _lacking_values_sql(scope: Scope, edge: NeedEdge) -> str:
    """How many of the values that rows without a line refer to do not find an included row."""
    columns = [scope.schema.tables[edge.child].column(name) for name in edge.columns]
    values = ", ".join(f"r.key[{place}]::{column.type}" for place, column in enumerate(columns, 1) if column)
    names = ", ".join(f"k{number}" for number, _ in enumerate(edge.columns))
    same = " AND ".join(f"e.k{number} = c.k{number}" for number, _ in enumerate(edge.columns))
    kept = f"SELECT {values} FROM {REFERENCES_TABLE} r WHERE r.source = {scope.references[edge.child, edge.columns]}"
    found = f"FROM ({kept}) c ({names}) LEFT JOIN ({_parents(scope, edge)}) e ({names}) ON {same}"
    return f"(SELECT count(*) {found} WHERE e.k0 IS {'NOT ' if scope.ownership.all_but else ''}NULL)"


def _decides(scope: Scope, table: str, alias: str) -> NeedEdge | None:
    """The reference that is all of the condition on whose a row is: it is ours, or theirs, where its parent is.

    So what a gate would ask of the rows that are own is the condition by which they are chosen, or what it asks of the
    parent anyway. Told from the SQL itself, not from the rules that made it. Where all but some businesses are chosen,
    own is what is not theirs.
    """
    if not scope.scoped(table):
        return None
    words = (scope.ownership.theirs,) if scope.ownership.all_but else (scope.own, scope.ownership.theirs)
    said = [whose(table, alias) for whose in words]
    above = f"{alias}_1"
    for edge in scope.rules.needs:
        if edge.child != table or len(edge.columns) != 1 or not scope.scoped(edge.parent):
            continue
        key, column = f"{above}.{quote(edge.parent_columns[0])}", f"{alias}.{quote(edge.columns[0])}"
        of_parent = [whose(edge.parent, above) for whose in words]
        exists = f"EXISTS (SELECT FROM {qualified(scope.schema.tables[edge.parent])} {above} WHERE {key} = {column} AND"
        if said in (
            [f"({exists} {verdict}))" for verdict in of_parent],
            [f"({verdict.replace(key, column)})" for verdict in of_parent],  # on the key itself: the business
        ):
            return edge
    return None


def _lacking_sql(scope: Scope, edges: Sequence[NeedEdge], child: Source) -> str:
    """How many rows of the child there are, and for each reference how many do not find an included row; or where
    nearly all rows are included, how many find one that is not."""
    counts, joins = ["count(*)"], []
    for place, edge in enumerate(edges):
        if scope.ownership.all_but:
            counts.append(f"count(*) FILTER (WHERE e{place}.k0 IS NOT NULL)")
        else:
            counts.append(f"count(*) FILTER (WHERE {_all_set(edge, 'c')} AND e{place}.k0 IS NULL)")
        names = ", ".join(f"k{number}" for number, _ in enumerate(edge.columns))
        same = " AND ".join(f"e{place}.k{number} = c.{quote(ours)}" for number, ours in enumerate(edge.columns))
        joins.append(f"LEFT JOIN ({_parents(scope, edge)}) e{place} ({names}) ON {same}")
    joined = Source(f"{child.clause} {' '.join(joins)}", child.condition, child.how)
    return f"(SELECT ARRAY[{', '.join(counts)}] FROM {joined.where()})"


def _parents(scope: Scope, edge: NeedEdge) -> str:
    """The keys of the parent's rows that are included; or where nearly all are, of those that are not."""
    keys = column_list(edge.parent_columns, "p")
    relation = f"{qualified(scope.schema.tables[edge.parent])} p"
    if scope.ownership.all_but:
        return (
            f"SELECT {keys} FROM {relation} WHERE {scope.ownership.theirs(edge.parent, 'p')} AND NOT EXISTS "
            f"(SELECT FROM {SCOPE_TABLE} s WHERE s.place = {scope.place(edge.parent)} "
            "AND s.tid = p.ctid AND s.oid = p.tableoid)"
        )
    parents = scope.sources(edge.parent, "p")
    nothing = f"SELECT {keys} FROM {relation} WHERE false"
    return " UNION ALL ".join(f"SELECT {keys} FROM {parent.where()}" for parent in parents) or nothing


async def _total(connection: asyncpg.Connection, counts: Sequence[str]) -> int:
    """The sum of what these queries count."""
    return sum([await connection.fetchval(sql) for sql in counts])


def _missing_sql(scope: Scope, edge: NeedEdge, child: Source) -> str:
    """How many of these rows of the child refer to a row of the parent that exists and is in none of its sources."""
    pairs = list(zip(edge.columns, edge.parent_columns, strict=True))
    relation = qualified(scope.schema.tables[edge.parent])
    same = " AND ".join(f"p.{quote(theirs)} = c.{quote(ours)}" for ours, theirs in pairs)
    included = [f"NOT EXISTS (SELECT FROM {parent.where(same)})" for parent in scope.sources(edge.parent, "p")]
    exists = f"EXISTS (SELECT FROM {relation} p WHERE {same})"
    return f"SELECT count(*) FROM {child.where(*included, exists)}"


def _may_stay_behind(target: TableClass, edge: NeedEdge, unclassified: bool) -> bool:
    """Device rows are made fresh on the receiver; a transient row can be left out where NULL can take its place."""
    match target:
        case TableClass.DEVICE:
            return True
        case TableClass.UNCLASSIFIED:
            return unclassified
        case _:
            return not edge.required


async def leak(connection: asyncpg.Connection, scope: Scope) -> list[Finding]:
    """Rows of businesses that were not chosen, included as anything but stubs."""
    # "businessId" is this one and is not this one: the planner sees that no row can be both, and reads none.
    await connection.execute("SET LOCAL constraint_exclusion = on")
    questions = {}
    for table in scope.rules.tables:
        theirs = scope.ownership.theirs(table, "t")
        if theirs == NEVER or scope.classification.rule(table).whole:
            continue
        # Where all but some are chosen, the rows without a line are those that are not theirs: nothing to ask. Nor
        # where these rows are whose their parents are, which are asked about themselves.
        settled = scope.ownership.all_but or _decides(scope, table, "t")
        sources = scope.sources(table) if not settled else (scope.added(table, "t"),)
        for place, source in enumerate(source for source in sources if source):
            leaked = source.where(f"{source.how} < {How.STUB:d}", theirs)
            questions[table, place] = f"(SELECT count(*) FROM {leaked})"
    found: Counter[str] = Counter()
    for (table, _), rows in (await scalars(connection, questions)).items():
        found[table] += rows
    rules = {table: scope.classification.rule(table) for table in found}
    return [
        Finding("leak", table, rules[table].travels_with or rules[table].owners, rows, "belong to another business")
        for table, rows in found.items()
        if rows
    ]
