"""Which businesses are in a database in name only: their row came because rows of another business refer to it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from agent.database.businesses import Business
from agent.database.names import qualified, quote
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from agent.tables.scope import need_edges, travel_edges


async def stand_ins(
    connection: asyncpg.Connection, schema: Schema, classification: Classification, businesses: Sequence[Business]
) -> frozenset[str]:
    """The ids of those that have no row of their own but such as rows of others refer to.

    A stub is there because something refers to it, so it never lies in a table that nothing refers to; a business
    that is used has rows in those (memberships, settings, what was sold).
    """
    table = schema.tables[classification.businesses]
    if table.primary_key is None or not businesses:
        return frozenset()
    key = quote(table.primary_key.columns[0])
    tellers = _tellers(schema, classification)
    if not tellers:
        return frozenset()
    own = " OR ".join(
        f"EXISTS (SELECT FROM {qualified(schema.tables[name])} t WHERE t.{quote(column)} = b.{key})"
        for name, column in tellers
    )
    rows = await connection.fetch(
        f"SELECT b.{key}::text AS id FROM {qualified(table)} b WHERE b.{key}::text = ANY($1::text[]) AND NOT ({own})",
        [each.id for each in businesses],
    )
    return frozenset(row["id"] for row in rows)


def _tellers(schema: Schema, classification: Classification) -> list[tuple[str, str]]:
    """Readable tables whose rows name their business and that no other table refers to, each with that column."""
    names = classification.of_class(TableClass.BUSINESS)
    referred = {
        edge.parent
        for name in names
        for edges in (need_edges(name, schema, classification), travel_edges(name, schema, classification))
        for edge in edges
        if edge.parent != name
    }
    return [
        (name, edge.column)
        for name in names
        if name not in referred and schema.tables[name].readable and not classification.rule(name).common
        for edge in travel_edges(name, schema, classification)
        if edge.parent == classification.businesses and not edge.unset
    ]
