"""The gates that end every backup, each a query over the finished scope (DESIGN section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified, quote
from agent.database.ownership import NEVER
from agent.database.scope import How, Scope
from agent.tables.catalogue import TableClass
from agent.tables.scope import NeedEdge


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
    for edge in scope.rules.needs:
        if scope.scoped(edge.parent):
            rows = await connection.fetchval(_missing_sql(scope, edge))
            what = f"refer to rows of {edge.parent} that are not included"
            findings += [Finding("closure", edge.child, edge.columns, rows, what)] if rows else []
    for edge in scope.rules.outside:
        target = scope.classification.rule(edge.parent).table_class
        if _may_stay_behind(target, edge, unclassified):
            continue
        source = scope.source(edge.child, "c")
        rows = await connection.fetchval(f"SELECT count(*) FROM {source.where(_all_set(edge, 'c'))}")
        what = f"refer to {edge.parent}, which is {target} and does not travel"
        findings += [Finding("closure", edge.child, edge.columns, rows, what)] if rows else []
    return findings


def _missing_sql(scope: Scope, edge: NeedEdge) -> str:
    """How many included rows of the child refer to a row of the parent that has no line in its scope table."""
    columns = ", ".join(f"c.{quote(column)}" for column in edge.columns)
    pairs = list(zip(edge.columns, edge.parent_columns, strict=True))
    parent = f"{qualified(scope.schema.tables[edge.parent])} p"
    left_out = (
        f"LEFT JOIN {scope.scope_table(edge.parent)} s ON s.tid = p.ctid AND s.oid = p.tableoid WHERE s.oid IS NULL"
    )
    child = scope.source(edge.child, "c")
    if scope.all_but_theirs:
        # Few rows are left out: begin with those.
        join = " AND ".join(f"n.k{place} = c.{quote(ours)}" for place, (ours, _) in enumerate(pairs))
        keys = ", ".join(f"p.{quote(theirs)} AS k{place}" for place, (_, theirs) in enumerate(pairs))
        return (
            f"WITH n AS MATERIALIZED (SELECT {keys} FROM {parent} {left_out}) "
            f"SELECT count(*) FROM {child.where(f'EXISTS (SELECT FROM n WHERE {join})')}"
        )
    join = " AND ".join(f"p.{quote(theirs)} = n.{quote(ours)}" for ours, theirs in pairs)
    return (
        "SELECT coalesce(sum(n.many), 0)::bigint "
        f"FROM (SELECT {columns}, count(*) AS many FROM {child.where(_all_set(edge, 'c'))} GROUP BY {columns}) n "
        f"JOIN {parent} ON {join} {left_out}"
    )


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
    findings = []
    for table in scope.rules.tables:
        rule = scope.classification.rule(table)
        theirs = scope.ownership.theirs(table, "t")
        if theirs == NEVER or rule.whole:
            continue
        source = scope.source(table, "t")
        rows = await connection.fetchval(
            f"SELECT count(*) FROM {source.where(f'{source.how} < {How.STUB:d} AND {theirs}')}"
        )
        if rows:
            columns = rule.travels_with or rule.owners
            findings.append(Finding("leak", table, columns, rows, "belong to another business"))
    return findings
