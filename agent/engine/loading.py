"""Which tables of a bundle are loaded straight into place, without keys and indexes until all rows are there; and
from which tables many rows are taken away, without the foreign keys that refer to them.

That pays where most rows of the bundle go into tables that are empty here. It costs that nobody reads these tables
meanwhile, so where anybody does, or anything is unusual, the rows are staged and inserted like all others: with the
same plan, the same rows and the same undo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from agent.database.errors import LockTimeout
from agent.database.exclusive import hold_tables
from agent.database.merge import empty_tables
from agent.database.names import qualified
from agent.database.rebuild import Rebuild, survey, survey_references
from agent.database.transaction import Connection
from agent.engine.restore_entries import Selection
from agent.tables.schema import Schema, Table
from protocol.manifest import Manifest

LEAST_ROWS = 10_000
"""Fewer rows than this are inserted sooner than a table is taken apart."""
LEAST_OF_TABLE = 1_000
LEAST_SHARE = 0.5
"""Of the rows of the bundle."""
LEAST_GOING = 100
"""Fewer rows than this are taken away from a table sooner than what refers to it is taken down."""
_PATIENCE_SECONDS = 2.0


async def open_up(
    connection: Connection, manifest: Manifest, schema: Schema, selection: Selection, written: Iterable[Table]
) -> Rebuild | None:
    """Hold the tables ``written``, and say what is to be taken down; None, and nothing held, where that does not pay.

    Rows must go in exactly as they are in the bundle: the schemas must be equal.
    """
    if manifest.schema_fingerprint != schema.fingerprint():
        return None
    entries = Counter(chosen.table.name for chosen in selection.entries)
    rows = Counter({chosen.table.name: chosen.entry.rows for chosen in selection.entries})
    large = {name for name, number in rows.items() if number >= LEAST_OF_TABLE and entries[name] == 1}
    tables = {name: schema.tables[name] for name in sorted(large)}
    if not _pays(rows, tables):
        return None
    empty = await empty_tables(connection, tables.values())
    candidates = [table for name, table in tables.items() if name in empty]
    if not _pays(rows, empty):
        return None
    written = list(written)
    rebuild = await survey(connection, candidates, written)
    if not _pays(rows, rebuild.tables):
        return None
    exclusive = {*rebuild.touched, *(qualified(tables[name]) for name in rebuild.tables)}
    try:
        await hold_tables(connection, written, exclusive=exclusive, seconds=_PATIENCE_SECONDS)
    except LockTimeout:
        return None
    # What was looked at before it was held may have changed meanwhile.
    still_empty = await empty_tables(connection, [tables[name] for name in rebuild.tables])
    if still_empty != rebuild.tables or await survey(connection, candidates, written) != rebuild:
        raise NotLoaded
    return rebuild


async def open_references(
    connection: Connection, schema: Schema, going: Mapping[str, int], written: Iterable[Table]
) -> Rebuild | None:
    """Hold what refers to tables of which many rows are ``going``, and say what is to be taken down.

    None, and nothing held, where there is nothing or somebody else is at work: other tables are held already, so
    nobody is waited for.
    """
    parents = [schema.tables[name] for name, rows in sorted(going.items()) if rows >= LEAST_GOING]
    if not parents:
        return None
    children, written = schema.tables.values(), list(written)
    rebuild = await survey_references(connection, parents, children, written)
    if not rebuild.down:
        return None
    try:
        await hold_tables(connection, (), exclusive=rebuild.touched, seconds=0)
    except LockTimeout:
        return None
    return rebuild if await survey_references(connection, parents, children, written) == rebuild else None


class NotLoaded(Exception):
    """Rows cannot go straight into place, or be taken for known, after all: an id changes that they refer to, or
    somebody was quicker. All begins anew, without that."""


def _pays(rows: Counter[str], tables: Iterable[str]) -> bool:
    loaded = sum(rows[name] for name in tables)
    return loaded >= LEAST_ROWS and loaded >= LEAST_SHARE * rows.total()
