"""Undo: what a restore did is sealed into a bundle before it commits; an undo reads that and puts the rows back.

An undo is a restore of its own: one transaction, a plan with the same digest rule, and an undo bundle of what it did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any

from agent.database.exclusive import hold_tables, one_at_a_time
from agent.database.names import quote
from agent.database.rebuild import add_references, take_down
from agent.database.reflect import reflect
from agent.database.transaction import Connection, Isolation, commit_surely, open_transaction, transaction_id
from agent.database.undo import WHAT, Change, Recorder, undo_columns
from agent.database.undo_room import make_room
from agent.database.undo_write import (
    Fate,
    Kept,
    changed_keys,
    count_held,
    create_brought,
    create_kept,
    decide,
    delete_rows,
    going_rows,
    inserted,
    keep_brought,
    return_rows,
    returned_rows,
    revert_rows,
    reverting_rows,
)
from agent.engine.bundle_file import BundleSource
from agent.engine.keeping import Keeper, write_undo
from agent.engine.loading import open_references
from agent.engine.plan import TableCounts, plan_digest
from agent.engine.progress import Progress, Step, silent
from agent.engine.restore_errors import CountsDiffer, PlanChanged, RestoreError, listed
from agent.engine.restore_staging import copy_entries
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification, classify
from agent.tables.order import insert_order
from agent.tables.schema import Schema, Table
from protocol.manifest import BusinessRef, Kind, Manifest, TableEntry
from protocol.refusal import foreign_device_state

_DOING = "The undo"
_EXAMPLES = 5


class NotAnUndo(RestoreError):
    code = "not-an-undo"
    hint = "`backroom restore` restores backups; `backroom undo` takes a restore back."


class TableGone(RestoreError):
    code = "schema-changed-since"
    hint = "The platform's schema has changed since that restore. Restore a backup from before it instead."


class ChangedSince(RestoreError):
    code = "changed-since"
    hint = "Say --keep-changed to leave those rows as they are now, or --overwrite-changed to take them back too."


class StillNeeded(RestoreError):
    code = "still-needed"
    hint = "Rows made since then refer to rows that would go. Delete them in the platform first, or keep the restore."


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What an undo does: per table rows that go (``delete``), become as they were (``update``), come back
    (``insert``), and those that somebody changed since (``kept``), with some of their keys."""

    bundle_id: str
    business: BusinessRef | None
    digest: str
    tables: Mapping[str, TableCounts]
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def totals(self) -> TableCounts:
        return sum(self.tables.values(), TableCounts())

    def as_dict(self) -> dict[str, Any]:
        totals = self.totals
        return {
            "bundle_id": self.bundle_id,
            "business": asdict(self.business) if self.business else None,
            "plan": self.digest,
            "inserted": totals.insert,
            "updated": totals.update,
            "deleted": totals.delete,
            "kept": totals.kept,
            "tables": {name: asdict(counts) for name, counts in self.tables.items()},
            "changed": {name: list(keys) for name, keys in self.changed.items()},
        }


@dataclass(frozen=True, slots=True)
class UndoResult:
    """An undo that was done. ``undo`` is the manifest of its own undo bundle."""

    plan: UndoPlan
    undo: Manifest | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**self.plan.as_dict(), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class _Work:
    connection: Connection
    schema: Schema
    classification: Classification
    kept: Mapping[str, Kept]


async def plan_undo(
    url: str, source: BundleSource, catalogue: Catalogue, *, own_node: str, progress: Progress = silent
) -> UndoPlan:
    """What :func:`undo` would do now. Rolls back."""
    async with open_transaction(url, Isolation.ONE_MOMENT, doing=_DOING) as connection:
        work = await _stage(connection, source, catalogue, own_node, progress)
        return await _plan(work, source.manifest, overwrite=False)


async def undo(
    url: str,
    source: BundleSource,
    catalogue: Catalogue,
    *,
    own_node: str,
    keeper: Keeper,
    keep_changed: bool = False,
    overwrite_changed: bool = False,
    expected: str | None = None,
    started: Callable[[str], Awaitable[None]] | None = None,
    progress: Progress = silent,
) -> UndoResult:
    """Take a restore back, all of it or nothing. Rows changed since make it stop, unless one of the two flags is set.

    ``started`` is told the transaction's id before anything is written. Raises :class:`ChangedSince`,
    :class:`StillNeeded`, ``PlanChanged``, :class:`TableGone` and what a restore raises.
    """
    began = monotonic()
    async with open_transaction(url, Isolation.COMMITTED, doing=_DOING) as connection:
        await one_at_a_time(connection)
        work = await _stage(connection, source, catalogue, own_node, progress)
        # Also where a row that comes meanwhile would go with the one that it refers to.
        may_go = await inserted(connection, work.kept.values())
        held = [kept.table for kept in work.kept.values()]
        await hold_tables(connection, [*held, *work.schema.dragged_along(may_go)])
        plan = await _plan(work, source.manifest, overwrite=overwrite_changed)
        if expected is not None and plan.digest != expected:
            raise PlanChanged("The data here changed since the plan was made. Nothing was changed.")
        if plan.totals.kept and not keep_changed:
            found = [f"{name}: {c.kept} ({', '.join(plan.changed[name])})" for name, c in plan.tables.items() if c.kept]
            raise ChangedSince(listed("Rows have been changed since that restore:", found), details=found)
        reverts_first = await _reverts_first(work)
        transaction = (await transaction_id(connection, url)).id
        if started is not None:
            await started(transaction)
        recorder = Recorder(connection)
        going = {name: counts.delete for name, counts in plan.tables.items()}
        written = [kept.table for kept in work.kept.values()]
        rebuild = await open_references(connection, work.schema, going, written)
        if rebuild is not None:
            await take_down(connection, rebuild)
        await _write(work, plan, recorder, progress, reverts_first=reverts_first)
        if rebuild is not None:
            await add_references(connection, rebuild, lambda name: progress(Step("checking references", what=name)))
        manifest = await write_undo(
            recorder,
            connection,
            work.schema,
            work.classification,
            keeper,
            source,
            {},
            business=source.manifest.business,
            server_version=source.manifest.server_version,
        )
        await commit_surely(connection, url, transaction)
    return UndoResult(plan, manifest, monotonic() - began)


async def _stage(
    connection: Connection, source: BundleSource, catalogue: Catalogue, own_node: str, progress: Progress
) -> _Work:
    manifest = source.manifest
    if manifest.kind is not Kind.UNDO:
        raise NotAnUndo("This bundle is a backup, not an undo bundle.")
    if manifest.source_node != own_node:
        raise foreign_device_state(manifest)
    schema = await reflect(connection)
    kept, brought = {}, {}
    for index, entry in enumerate(manifest.tables):
        table = schema.tables.get(entry.table)
        names = tuple(column.name for column in entry.columns)
        as_came = WHAT not in names
        if table is None or not (_same_columns(table, entry) if as_came else undo_columns(table) == names):
            raise TableGone(f"The table {entry.table} is no longer as it was when the restore was done.")
        kept[entry.table] = Kept(index, table)
        await create_kept(connection, kept[entry.table])
        if as_came:
            brought[index] = await create_brought(connection, kept[entry.table])
    places = {each.index: ("pg_temp", brought.get(each.index, each.name)) for each in kept.values()}
    await copy_entries(connection, source, places, progress)
    for each in kept.values():
        if each.index in brought:
            await keep_brought(connection, each)
    return _Work(connection, schema, classify(schema, catalogue), kept)


def _same_columns(table: Table, entry: TableEntry) -> bool:
    return {(column.name, column.type) for column in table.stored_columns} == {
        (column.name, column.type) for column in entry.columns
    }


async def _plan(work: _Work, manifest: Manifest, *, overwrite: bool) -> UndoPlan:
    tables, changed = {}, {}
    for name, kept in sorted(work.kept.items()):
        fates = await decide(work.connection, kept, overwrite=overwrite)
        tables[name] = TableCounts(
            insert=fates.get(Fate.RETURN, 0),
            update=fates.get(Fate.REVERT, 0),
            delete=fates.get(Fate.DELETE, 0),
            kept=fates.get(Fate.CHANGED, 0),
            unchanged=fates.get(Fate.GONE, 0),
        )
        if tables[name].kept:
            changed[name] = await changed_keys(work.connection, kept, _EXAMPLES)
    parts = {
        "bundle": manifest.bundle_id,
        "tables": {name: asdict(counts) for name, counts in tables.items()},
        "changed": changed,
    }
    return UndoPlan(manifest.bundle_id, manifest.business, plan_digest(parts), tables, changed)


async def _reverts_first(work: _Work) -> bool:
    """Whether rows that are to go are referred to by rows that turn back, which must therefore turn back first.

    Nothing may go that a row which stays refers to, whatever ON DELETE would make of that row.
    """
    found, reverts_first = [], False
    for child in work.schema.tables.values():
        for key in child.foreign_keys:
            parent, own = work.kept.get(key.references), work.kept.get(child.name)
            if parent is None or not parent.table.identity:
                continue
            rows = await count_held(work.connection, child, key, parent, own, (Fate.DELETE, Fate.REVERT))
            if rows:
                found.append(f"{child.name}.{', '.join(key.columns)}: {rows} refer to rows of {parent.table.name}")
            elif own is not None and await count_held(work.connection, child, key, parent, own, (Fate.DELETE,)):
                reverts_first = True
    if found:
        raise StillNeeded(listed("Rows that are to go are still needed:", found), details=found)
    return reverts_first


async def _write(work: _Work, plan: UndoPlan, recorder: Recorder, progress: Progress, *, reverts_first: bool) -> None:
    """Rows go before others come back or turn back, since these may need the numbers of those; unless rows that turn
    back still refer to them."""
    order = insert_order(work.schema, work.kept)
    for kept in work.kept.values():
        await recorder.before(kept.table, Change.DELETED, going_rows(kept))
        if kept.table.identity:
            own = [f"k.{name}" for name in _quoted(kept.table)]
            await recorder.before(kept.table, Change.UPDATED, reverting_rows(kept), now=own)
        recorder.inserted(kept.table, returned_rows(kept))
    for kept in work.kept.values():
        await make_room(work.connection, kept)
    steps = [_return_all, _revert_all, _delete_all] if reverts_first else [_delete_all, _return_all, _revert_all]
    for step in steps:
        await step(work, plan, order, progress)


Order = Sequence[Sequence[str]]


async def _return_all(work: _Work, plan: UndoPlan, order: Order, progress: Progress) -> None:
    for component in order:
        wanted = sum(plan.tables[name].insert for name in component)
        if wanted:
            progress(Step("bringing back", what=", ".join(component)))
            _compare(component, wanted, await return_rows(work.connection, [work.kept[name] for name in component]))


async def _revert_all(work: _Work, plan: UndoPlan, order: Order, progress: Progress) -> None:
    for name in (name for component in order for name in component):
        if plan.tables[name].update:
            progress(Step("turning back", what=name))
            _compare((name,), plan.tables[name].update, await revert_rows(work.connection, work.kept[name]))


async def _delete_all(work: _Work, plan: UndoPlan, order: Order, progress: Progress) -> None:
    for name in (name for component in reversed(order) for name in component):
        if plan.tables[name].delete:
            progress(Step("taking away", what=name))
            _compare((name,), plan.tables[name].delete, await delete_rows(work.connection, work.kept[name]))


def _quoted(table: Table) -> Sequence[str]:
    return [quote(name) for name in table.identity]


def _compare(tables: Sequence[str], planned: int, done: int) -> None:
    if planned != done:
        raise CountsDiffer(f"Of {planned} rows in {', '.join(tables)}, the database took {done}. Nothing was changed.")
