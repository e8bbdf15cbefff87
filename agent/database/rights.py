"""What the database user may do with each table: for a diagnosis before something fails half way."""

from __future__ import annotations

from collections.abc import Iterable

from agent.database.names import qualified
from agent.database.transaction import Connection
from agent.tables.schema import Table

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


async def missing_rights(connection: Connection, tables: Iterable[Table]) -> dict[str, tuple[str, ...]]:
    """For each table that lacks any of :data:`RIGHTS`, those that it lacks."""
    named = {qualified(table): table.name for table in tables}
    found = await connection.fetch(
        "SELECT t AS place, r AS wanted FROM unnest($1::text[]) t, unnest($2::text[]) WITH ORDINALITY w(r, n) "
        "WHERE NOT has_table_privilege(t, r) ORDER BY t, n",
        list(named),
        list(RIGHTS),
    )
    lacking: dict[str, tuple[str, ...]] = {}
    for row in found:
        lacking[named[row["place"]]] = (*lacking.get(named[row["place"]], ()), row["wanted"])
    return lacking
