"""The two sides of a comparison that this laptop has itself: its database, and a bundle file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager

from agent.database.businesses import NoSuchBusiness
from agent.database.digests import (
    Digest,
    Question,
    Rows,
    existing_keys,
    range_digests,
    row_digests,
    table_digest,
)
from agent.database.scope import Scope, forget_scope
from agent.database.scope_walk import fill_business_scope
from agent.database.snapshot import Snapshot, open_snapshot
from agent.database.staging import create_text_stage
from agent.database.transaction import Connection, Isolation, open_transaction
from agent.engine.backup_rows import choose_rows, tables_to_read
from agent.engine.bundle_file import BundleSource
from agent.engine.compare_shapes import TableShape
from agent.engine.restore_entries import device_references
from agent.engine.restore_staging import copy_entries
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification
from agent.tables.schema import Table
from protocol.manifest import Kind, Manifest, Section

_DOING = "The comparison"


class _DatabaseSide:
    """Answers from rows in one connection's transaction."""

    def __init__(self, connection: Connection, shapes: Mapping[str, TableShape], rows: Mapping[str, Rows]) -> None:
        self._connection = connection
        self._shapes = shapes
        self._rows = rows

    async def shapes(self) -> Mapping[str, TableShape]:
        return self._shapes

    async def digests(self, questions: Sequence[Question]) -> Mapping[str, Digest]:
        return {
            question.table: await table_digest(self._connection, self._rows[question.table], question)
            for question in questions
        }

    async def ranges(self, question: Question, _other: Awaitable[object]) -> Mapping[int, Digest]:
        return await range_digests(self._connection, self._rows[question.table], question)

    async def rows(self, question: Question, ranges: Sequence[int]) -> Mapping[str, str]:
        found = row_digests(self._connection, self._rows[question.table], question, ranges)
        return {key: digest async for key, digest in found}

    async def needed(self, question: Question, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(keys)


class LiveSide(_DatabaseSide):
    """One business in this laptop's database, as a backup would take it, stubs left out."""

    def __init__(self, snapshot: Snapshot, scope: Scope) -> None:
        tables = [snapshot.schema.tables[name] for name in tables_to_read(Kind.BUSINESS, snapshot.classification)]
        super().__init__(
            snapshot.connection,
            {table.name: live_shape(table, snapshot.classification) for table in tables},
            {table.name: _live_rows(scope, table.name) for table in tables},
        )
        self._snapshot = snapshot
        self._scope = scope
        self._core: Scope | None = None

    def stream(self, question: Question, ranges: Sequence[int] | None = None) -> AsyncGenerator[tuple[str, str], None]:
        """What :meth:`rows` gives, for these ranges or all rows, a few at a time."""
        return row_digests(self._connection, self._rows[question.table], question, ranges)

    async def needed(self, question: Question, keys: Sequence[str]) -> frozenset[str]:
        core = _live_rows(await self._needed_scope(), question.table)
        return await existing_keys(self._connection, core, question, keys)

    async def _needed_scope(self) -> Scope:
        """The rows that are in without the reference tables being taken whole; the other scope is gone then."""
        if self._core is None:
            scope = self._scope
            await forget_scope(self._connection)
            self._core = Scope(scope.schema, scope.classification, scope.rules, scope.ownership, {})
            await fill_business_scope(self._connection, self._core)
        return self._core


def live_shape(table: Table, classification: Classification) -> TableShape:
    """What of a live table is compared."""
    references = device_references(table, classification, frozenset())
    local = frozenset(name for reference in references for name in reference.clears)
    columns = {column.name: column.type for column in table.stored_columns}
    return TableShape(table.name, columns, table.identity, local, classification.timestamp(table))


def _live_rows(scope: Scope, table: str) -> Rows:
    return Rows(f"({scope.selected(table, 't.*', stubs=False)}) t")


@asynccontextmanager
async def live_side(url: str, catalogue: Catalogue, business: str) -> AsyncIterator[LiveSide]:
    """The business with this id in the database at ``url``, in one snapshot that lasts as long as the block.

    Another one that is only called so is not meant: who may ask was decided by the id. Raises ``NoSuchBusiness`` and
    errors of ``agent.database``.
    """

    def reads(classification: Classification) -> tuple[str, ...]:
        return tables_to_read(Kind.BUSINESS, classification)

    async with open_snapshot(url, catalogue, reads, doing=_DOING) as snapshot:
        found, scope = await choose_rows(snapshot, business)
        if found.id != business:
            raise NoSuchBusiness(f"There is no business with the id {business!r} in this database.")
        yield LiveSide(snapshot, scope)


@asynccontextmanager
async def bundle_side(url: str, source: BundleSource) -> AsyncIterator[_DatabaseSide]:
    """The rows of a bundle, in temporary tables of the database at ``url`` that go when the block ends.

    All values are staged as the text that they are, so no schema is needed and nothing can fail to fit.
    """
    manifest = source.manifest
    names = {
        index: f"backroom_bundle_{index}"
        for index, entry in enumerate(manifest.tables)
        if entry.section is Section.BUSINESS and not entry.stub
    }
    async with open_transaction(url, Isolation.COMMITTED, doing=_DOING) as connection:
        for index, name in names.items():
            await create_text_stage(connection, name, [column.name for column in manifest.tables[index].columns])
        await copy_entries(connection, source, {index: ("pg_temp", name) for index, name in names.items()})
        rows = {manifest.tables[index].table: Rows(f"pg_temp.{name} t", text=True) for index, name in names.items()}
        yield _DatabaseSide(connection, _bundle_shapes(manifest), rows)


def _bundle_shapes(manifest: Manifest) -> dict[str, TableShape]:
    return {
        entry.table: TableShape(entry.table, {column.name: column.type for column in entry.columns}, entry.key)
        for entry in manifest.tables
        if entry.section is Section.BUSINESS and not entry.stub
    }
