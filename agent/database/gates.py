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


async def closure(connection: asyncpg.Connection, scope: Scope) -> list[Finding]:
    """Included rows that refer to a row which exists and is neither included nor a device row."""
    findings = []
    for edge in scope.rules.needs:
        if not scope.scoped(edge.parent):
            continue
        child = scope.source(edge.child, "c")
        parent = qualified(scope.schema.tables[edge.parent])
        columns = ", ".join(f"c.{quote(column)}" for column in edge.columns)
        join = " AND ".join(
            f"p.{quote(theirs)} = n.{quote(ours)}"
            for ours, theirs in zip(edge.columns, edge.parent_columns, strict=True)
        )
        rows = await connection.fetchval(
            f"SELECT coalesce(sum(n.many), 0)::bigint FROM (SELECT {columns}, count(*) AS many FROM {child.where(_all_set(edge, 'c'))} "
            f"GROUP BY {columns}) n JOIN {parent} p ON {join} LEFT JOIN {scope.scope_table(edge.parent)} s "
            "ON s.tid = p.ctid AND s.oid = p.tableoid WHERE s.oid IS NULL"
        )
        if rows:
            findings.append(
                Finding(
                    "closure", edge.child, edge.columns, rows, f"refer to rows of {edge.parent} that are not included"
                )
            )
    for edge in scope.rules.outside:
        findings += await _outside(connection, scope, edge)
    return findings


async def _outside(connection: asyncpg.Connection, scope: Scope, edge: NeedEdge) -> list[Finding]:
    """References to a table that does not travel: fine to a device table, or where NULL can take their place."""
    target = scope.classification.rule(edge.parent)
    if target.table_class is TableClass.DEVICE or not edge.required:
        if target.table_class is not TableClass.UNCLASSIFIED:
            return []
    rows = await connection.fetchval(f"SELECT count(*) FROM {scope.source(edge.child, 'c').where(_all_set(edge, 'c'))}")
    if not rows:
        return []
    what = f"refer to {edge.parent}, which is {target.table_class} and does not travel"
    return [Finding("closure", edge.child, edge.columns, rows, what)]


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
