"""Restoring a bundle: refuse, stage, plan, write, all in one transaction (DESIGN section 5).

The caller has verified the bundle and decided to trust its source. Nothing is written before all that is used of it
has been read again and found the same, and nothing stays unless everything was written as planned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from agent.database.exclusive import hold_tables, one_at_a_time
from agent.database.merge import Conflicts
from agent.database.moments import Moment, moment, quiet
from agent.database.rebuild import add_references, build_indexes, take_down
from agent.database.reflect import reflect
from agent.database.transaction import Begun, Connection, Isolation, commit_surely, open_transaction, transaction_id
from agent.database.undo import Recorder
from agent.database.untouched import untouched
from agent.engine.apply import write
from agent.engine.apply_mirror import mirrored_tables
from agent.engine.apply_plan import make_plan
from agent.engine.apply_work import Work, prepare
from agent.engine.bundle_file import BundleSource
from agent.engine.choices import NO_CHOICES, Choices
from agent.engine.examples import clock_warnings, examples
from agent.engine.keeping import Keeper, write_undo
from agent.engine.known import Earlier
from agent.engine.loading import NotLoaded, open_up
from agent.engine.outdated import dequeue, find_outdated, queues
from agent.engine.plan import RestorePlan, RestoreResult
from agent.engine.progress import Progress, Step, silent
from agent.engine.record import as_in_bundle, record
from agent.engine.restore_entries import Selection, select_entries
from agent.engine.restore_errors import DuplicateRows, NotABackup, PlanChanged, UnclearRows, listed
from agent.engine.restore_staging import Unpack, stage_entries
from agent.engine.sifting import known_entries, remember, sieves, still_holds
from agent.reading import Unreadable
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification, classify
from agent.tables.schema import Schema, Table
from protocol.manifest import Kind
from protocol.refusal import check_device_state

_DOING = "The restore"


async def plan_restore(
    url: str,
    source: BundleSource,
    catalogue: Catalogue,
    *,
    own_node: str,
    conflicts: Conflicts = Conflicts.BUNDLE,
    choices: Choices = NO_CHOICES,
    show: Sequence[str] = (),
    earlier: Earlier | None = None,
    progress: Progress = silent,
) -> RestorePlan:
    """What :func:`restore` would do now. Takes no locks that others feel and rolls back.

    ``show`` names tables of which the plan brings examples; ``earlier`` is as for :func:`restore`.
    ``own_node`` is this device's node ID: the bundle of another device may not bring device state.
    Raises ``ForeignDeviceState``, errors of ``agent.engine.restore_errors`` and of ``agent.database.errors``.
    """
    _check_kind(source, own_node)
    wanted = _Wanted(url, source, catalogue, own_node, conflicts, choices, None, None, None, progress)
    try:
        return await _plan(wanted, show, earlier if choices == NO_CHOICES else None)
    except (NotLoaded, Unreadable):
        return await _plan(wanted, show, None)


async def restore(
    url: str,
    source: BundleSource,
    catalogue: Catalogue,
    *,
    own_node: str,
    conflicts: Conflicts = Conflicts.BUNDLE,
    choices: Choices = NO_CHOICES,
    expected: str | None = None,
    keeper: Keeper | None = None,
    started: Callable[[str], Awaitable[None]] | None = None,
    earlier: Earlier | None = None,
    progress: Progress = silent,
) -> RestoreResult:
    """Restore the bundle into the database at ``url``, in one transaction: all of it, exactly as planned, or nothing.

    ``expected`` is the digest of a plan that someone agreed to; with another plan nothing happens. With ``keeper``
    the rows as they were are kept in an undo bundle, safe on the disk before the database commits. ``started`` is
    told the transaction's id before anything is written: whether it was committed can be asked of the database
    later, whatever happens here (:func:`agent.database.transaction.outcome`). ``earlier`` is what the last restore of
    this business made known, with its bundle: rows that it brought and that nobody touched since are not staged again.
    Raises what :func:`plan_restore` raises, ``PlanChanged``, ``DuplicateRows``, ``RowsRefused`` and ``CountsDiffer``.
    """
    began = monotonic()
    _check_kind(source, own_node)
    wanted = _Wanted(url, source, catalogue, own_node, conflicts, choices, expected, keeper, started, progress)
    try:
        plainly = choices == NO_CHOICES
        result = await _restore(wanted, earlier if plainly else None, may_load=plainly)
    except (NotLoaded, Unreadable):
        result = await _restore(wanted, None, may_load=False)
    return replace(result, seconds=monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What :func:`restore` was asked for."""

    url: str
    source: BundleSource
    catalogue: Catalogue
    own_node: str
    conflicts: Conflicts
    choices: Choices
    expected: str | None
    keeper: Keeper | None
    started: Callable[[str], Awaitable[None]] | None
    progress: Progress

    async def begin(self, connection: Connection) -> Begun:
        """From now on the transaction writes; whoever asked for it knows its id then, too."""
        transaction = await transaction_id(connection, self.url)
        if self.started is not None:
            await self.started(transaction.id)
        return transaction


@dataclass(frozen=True, slots=True)
class _Target:
    """The database as it is, and which of its tables the bundle's entries go into."""

    schema: Schema
    classification: Classification
    selection: Selection

    @property
    def queues(self) -> tuple[Table, ...]:
        return queues(self.schema, self.classification, self.selection)

    @property
    def written(self) -> tuple[Table, ...]:
        return (*(self.schema.tables[name] for name in sorted(self.selection.tables)), *self.queues)


async def _plan(wanted: _Wanted, show: Sequence[str], earlier: Earlier | None) -> RestorePlan:
    async with open_transaction(wanted.url, Isolation.ONE_MOMENT, doing=_DOING) as connection:
        target = await _look(connection, wanted.source, wanted.catalogue, wanted.own_node)
        unpack, _ = await _sieves(connection, wanted.source, target, earlier)
        work = await _stage(connection, wanted, target, unpack=unpack)
        plan = await _full_plan(work)
        if earlier is not None and not still_holds(work, earlier.known):
            raise NotLoaded
        return replace(plan, examples=await examples(work, show)) if show else plan


async def _restore(wanted: _Wanted, earlier: Earlier | None, *, may_load: bool) -> RestoreResult:
    """One try; with ``may_load`` rows may go straight into empty tables. Raises ``NotLoaded``, with nothing changed,
    where they should not have gone there, or what was ``earlier`` does not hold any more."""
    source, progress = wanted.source, wanted.progress
    async with open_transaction(wanted.url, Isolation.COMMITTED, doing=_DOING) as connection:
        await one_at_a_time(connection)
        target = await _look(connection, source, wanted.catalogue, wanted.own_node)
        rebuild = transaction = None
        if may_load:
            rebuild = await open_up(connection, source.manifest, target.schema, target.selection, target.written)
        if rebuild is not None:
            transaction = await wanted.begin(connection)
            await take_down(connection, rebuild)
            earlier = None
        unpack, looked = await _sieves(connection, source, target, earlier)
        loaded = {name: name in rebuild.anew for name in rebuild.tables} if rebuild is not None else None
        work = await _stage(connection, wanted, target, loaded, unpack)
        if rebuild is None:
            progress(Step("waiting for the platform"))
            # A mirror's also where a row that comes meanwhile would go with the one that it refers to.
            dragged = work.schema.dragged_along(mirrored_tables(work))
            await hold_tables(connection, [*work.tables, *target.queues, *dragged])
        plan = await _full_plan(work)
        if rebuild is not None and work.renames.found:
            raise NotLoaded
        if earlier is not None and not still_holds(work, earlier.known):
            raise NotLoaded
        if earlier is not None and plan.totals.changes and not quiet(looked, await moment(connection)):
            # To those of which rows are staged nobody writes any more; what is done to others comes after this.
            tables = [target.schema.tables[name] for name in work.sifted]
            if await untouched(connection, earlier.known.mark, tables) != frozenset(work.sifted):
                raise NotLoaded
        _check_plan(plan, wanted.expected)
        if transaction is None:
            transaction = await wanted.begin(connection)
        recorder = Recorder(connection)
        if wanted.keeper is not None:
            await record(work, plan, recorder)
        await dequeue(work, plan, recorder)
        sequences = await write(work, plan)

        def building(name: str) -> None:
            progress(Step("building indexes", what=name))

        async def check_references() -> None:
            if rebuild is not None:
                await add_references(connection, rebuild, building)

        if rebuild is not None:
            await build_indexes(connection, rebuild, building)
        undo = None
        if wanted.keeper is None:
            await check_references()
        else:
            progress(Step("keeping the rows as they were"))
            undo = await write_undo(
                recorder,
                connection,
                work.schema,
                work.classification,
                wanted.keeper,
                source,
                as_in_bundle(work, plan),
                business=source.manifest.business,
                server_version=source.manifest.server_version,
                meanwhile=check_references,
            )
        known = None
        if plan.totals.changes:
            known = await remember(connection, work, plan, earlier, looked, transaction.both)
        progress(Step("committing"))
        await commit_surely(connection, wanted.url, transaction.id)
    return RestoreResult(plan, 0.0, sequences, undo, known)


async def _full_plan(work: Work) -> RestorePlan:
    plan = await make_plan(work)
    warnings = (*plan.warnings, *await clock_warnings(work))
    return replace(plan, warnings=warnings, dequeued=await find_outdated(work, plan))


async def _look(connection: Connection, source: BundleSource, catalogue: Catalogue, own_node: str) -> _Target:
    schema = await reflect(connection)
    classification = classify(schema, catalogue)
    return _Target(schema, classification, select_entries(source.manifest, schema, classification, own_node))


async def _sieves(
    connection: Connection, source: BundleSource, target: _Target, earlier: Earlier | None
) -> tuple[dict[int, Unpack], Moment]:
    """What leaves out rows of entries whose tables nobody has touched, by entry, and the moment in which that is so."""
    looked = await moment(connection)
    if earlier is None:
        return {}, looked
    manifest, schema = source.manifest, target.schema
    entries = await asyncio.to_thread(known_entries, earlier, manifest, schema, target.classification, target.selection)
    tables = [schema.tables[manifest.tables[index].table] for index in entries]
    same = await untouched(connection, earlier.known.mark, tables) if tables else frozenset()
    still = {index: whole for index, whole in entries.items() if manifest.tables[index].table in same}
    return sieves(earlier, manifest, still), looked


async def _stage(
    connection: Connection,
    wanted: _Wanted,
    target: _Target,
    loaded: Mapping[str, bool] | None = None,
    unpack: Mapping[int, Unpack] | None = None,
) -> Work:
    schema, classification, selection = target.schema, target.classification, target.selection
    source, progress = wanted.source, wanted.progress
    staged = await stage_entries(connection, source, schema, selection, progress, loaded, unpack)
    return prepare(
        connection,
        source.manifest,
        schema,
        classification,
        selection,
        staged,
        wanted.conflicts,
        progress,
        wanted.choices,
    )


def _check_kind(source: BundleSource, own_node: str) -> None:
    check_device_state(source.manifest, own_node)
    if source.manifest.kind is Kind.UNDO:
        raise NotABackup("This is an undo bundle: it takes one restore back and is no backup.")


def _check_plan(plan: RestorePlan, expected: str | None) -> None:
    if expected is not None and plan.digest != expected:
        raise PlanChanged("The data here changed since the plan was made. Nothing was changed.", details=[plan])
    if plan.unclear:
        raise UnclearRows(
            listed(
                "Rows of the bundle are the same thing as several rows here, or as one under an id in use:",
                plan.unclear,
            ),
            details=plan.unclear,
        )
    if plan.duplicates:
        raise DuplicateRows(
            listed("Rows of the bundle have the same number, name or code as other rows here:", plan.duplicates),
            details=plan.duplicates,
        )
