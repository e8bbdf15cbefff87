"""Looking without changing anything: businesses, tables, a bundle file, this laptop's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.database.businesses import Business, businesses_of, list_businesses
from agent.database.connect import connect
from agent.database.errors import translating
from agent.database.names import qualified
from agent.database.reflect import reflect
from agent.database.stand_ins import stand_ins
from agent.operations.workspace import Workspace
from agent.tables.catalogue import TableClass, TableRule
from agent.tables.infer import Classification, classify
from agent.tables.schema import Schema


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A table of the database: its rule, and its exact rows (None where this user may not read it)."""

    rule: TableRule
    rows: int | None

    def as_dict(self) -> dict[str, object]:
        rule = self.rule
        return {
            "table": rule.table,
            "name": rule.name,
            "class": rule.table_class.value,
            "origin": rule.origin.value,
            "group": rule.group,
            "travels": rule.describe(),
            "why": rule.why,
            "rows": self.rows,
        }


async def businesses(workspace: Workspace) -> tuple[Business, ...]:
    """All businesses of the database."""
    connection = await connect(workspace.database_url, application_name="backroom: businesses")
    try:
        with translating("Listing the businesses"):
            return await businesses_of(connection, workspace.catalogue())
    finally:
        await connection.close(timeout=5)


async def businesses_here(workspace: Workspace) -> tuple[tuple[Business, ...], frozenset[str]]:
    """All businesses of the database, and the ids of those that are here in name only."""
    connection = await connect(workspace.database_url, application_name="backroom: businesses")
    try:
        with translating("Listing the businesses"):
            schema = await reflect(connection)
            classification = classify(schema, workspace.catalogue())
            found = await list_businesses(connection, schema, classification)
            return found, await stand_ins(connection, schema, classification, found)
    finally:
        await connection.close(timeout=5)


async def tables(workspace: Workspace) -> tuple[TableSeen, ...]:
    """Every table with its class, where that came from, how it travels, and its exact number of rows."""
    connection = await connect(workspace.database_url, application_name="backroom: tables")
    try:
        with translating("Looking at the tables"):
            schema = await reflect(connection)
            classification = classify(schema, workspace.catalogue())
            seen = []
            for name in sorted(schema.tables):
                table = schema.tables[name]
                rows = await connection.fetchval(f"SELECT count(*) FROM {qualified(table)}") if table.readable else None
                seen.append(TableSeen(classification.rule(name), rows))
            return tuple(seen)
    finally:
        await connection.close(timeout=5)


async def schema_of(workspace: Workspace) -> tuple[Schema, Classification]:
    """The live schema and its classification."""
    connection = await connect(workspace.database_url, application_name="backroom: schema")
    try:
        with translating("Looking at the database"):
            schema = await reflect(connection)
            return schema, classify(schema, workspace.catalogue())
    finally:
        await connection.close(timeout=5)


async def travelling(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Columns with their types, of the tables whose rows may go to another laptop."""
    schema, classification = await schema_of(workspace)
    return {
        name: {column.name: column.type for column in schema.tables[name].stored_columns}
        for name in classification.of_class(TableClass.BUSINESS)
    }


async def find_bundle(workspace: Workspace, text: str) -> Path:
    """The bundle file that the user means: a path, a name in the archive, or an ID of the history."""
    async with workspace.history() as history:
        return await workspace.archive.find(text, history)
