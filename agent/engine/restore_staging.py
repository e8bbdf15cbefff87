"""From bundle to stages: frames unpacked in threads, copied into temporary tables, held against the live schema."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agent.database.staging import (
    Place,
    Stage,
    StagedColumn,
    copy_rows,
    count_misfits,
    count_missing,
    create_stages,
    settle_types,
)
from agent.database.transaction import Connection
from agent.engine.bundle_file import BundleSource, Frame
from agent.engine.drift import (
    ColumnFit,
    DriftProblem,
    column_fits,
    misfit,
    null_in_required,
    required_columns,
)
from agent.engine.progress import Progress, Step, silent
from agent.engine.restore_entries import Selected, Selection
from agent.engine.restore_errors import SchemaDrift, listed
from agent.tables.schema import Schema
from protocol.errors import WrongRowCount
from protocol.frames import EncodedFrame, decode_block
from protocol.manifest import Manifest

_FRAMES_AHEAD = 3

Unpack = Callable[[Frame], list[bytes]]
"""Blocks of rows of a frame; called in threads, for the frames in order."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The selected entries, by index. ``content`` names all rows of the bundle: a digest over those of its frames.

    Of the ``sifted`` only the rows that may differ from those here were staged; of the ``known`` none, and they have no
    temporary table.
    """

    stages: Mapping[int, Stage]
    content: str
    sifted: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()


async def stage_entries(
    connection: Connection,
    source: BundleSource,
    schema: Schema,
    selection: Selection,
    progress: Progress,
    loaded: Mapping[str, bool] | None = None,
    sieves: Mapping[int, Unpack] | None = None,
) -> Staged:
    """The selected entries in temporary tables, or in the live tables ``loaded`` (by name, with whether rows may be
    written as old ones), once the bundle has been read to its seal, or what is new of it was found as it was verified.

    ``sieves`` unpack frames of their entries to the rows that may differ from those here. Memory stays within a few
    frames. Raises ``SchemaDrift`` with every problem of every table, and what ``source`` raises. After an error the
    connection is to be terminated.
    """
    manifest = source.manifest
    fits = {chosen.index: column_fits(chosen.entry, chosen.table, manifest, schema) for chosen in selection.entries}
    stages = {chosen.index: _stage(chosen, fits[chosen.index], loaded or {}) for chosen in selection.entries}
    sieves = sieves or {}
    await create_stages(connection, (stage for index, stage in stages.items() if index not in sieves))
    known: set[int] = set()

    async def place_of(index: int) -> Place:
        known.discard(index)
        if index in sieves:
            await create_stages(connection, (stages[index],))
        return stages[index].place

    known.update(sieves)
    content = await _copy_entries(connection, source, set(stages), place_of, sieves, progress)
    problems = [*selection.missing]
    same_schema = manifest.schema_fingerprint == schema.fingerprint()
    for chosen in selection.entries:
        if chosen.index in known:
            continue
        problems += await _check(connection, chosen, stages[chosen.index], fits[chosen.index], same_schema=same_schema)
    if problems:
        raise SchemaDrift(
            listed("The bundle has data for which this database has no place:", problems), details=problems
        )
    for index, stage in stages.items():
        if index not in known:
            await settle_types(connection, stage)
    return Staged(stages, content, frozenset(sieves), frozenset(known))


def _stage(chosen: Selected, fits: tuple[ColumnFit, ...], loaded: Mapping[str, bool]) -> Stage:
    columns = tuple(StagedColumn(fit.name, fit.known, fit.fit) for fit in fits)
    name = chosen.table.name
    return Stage(chosen.index, chosen.table, columns, name in loaded, loaded.get(name, False))


async def copy_entries(
    connection: Connection, source: BundleSource, places: Mapping[int, tuple[str, str]], progress: Progress = silent
) -> str:
    """Copy entries of the bundle, by index, into tables (namespace and name) that have their columns; read it to its
    seal. Returns a digest over those of all frames.

    Raises what ``source`` raises. After an error the connection is to be terminated.
    """

    async def place_of(index: int) -> Place:
        return Place(*places[index])

    return await _copy_entries(connection, source, set(places), place_of, {}, progress)


async def _copy_entries(
    connection: Connection,
    source: BundleSource,
    wanted: set[int],
    place_of: Callable[[int], Awaitable[Place]],
    sieves: Mapping[int, Unpack],
    progress: Progress,
) -> str:
    """``place_of`` is asked where an entry goes when there are rows of it; a sieve may leave none."""
    # Sieves go from frame to frame: one thread keeps them in order.
    with ThreadPoolExecutor(1 if sieves else 2, "restore") as threads:
        feed = _Feed(source.sparse_frames() if sieves else source.frames(), wanted, sieves, threads)
        try:
            for index in sorted(wanted):
                await _fill(connection, source.manifest, index, place_of, feed, progress)
            await feed.finish()
        finally:
            await feed.close()
    return feed.content.hexdigest()


async def _fill(
    connection: Connection,
    manifest: Manifest,
    index: int,
    place_of: Callable[[int], Awaitable[Place]],
    feed: _Feed,
    progress: Progress,
) -> None:
    entry = manifest.tables[index]
    coming = feed.blocks(index)
    first = await anext(coming, None)
    progress(Step("reading", feed.rows, manifest.total_rows, entry.table))
    if first is None:
        return

    async def blocks() -> AsyncGenerator[bytes, None]:
        yield first
        async for block in coming:
            yield block
            progress(Step("reading", feed.rows, manifest.total_rows, entry.table))

    place = await place_of(index)
    rows = await copy_rows(connection, place, [column.name for column in entry.columns], blocks())
    if rows != feed.given:
        raise WrongRowCount(f"The table {entry.table} has {rows} rows in the bundle, not {feed.given}.")


async def _check(
    connection: Connection,
    chosen: Selected,
    stage: Stage,
    fits: tuple[ColumnFit, ...],
    *,
    same_schema: bool,
) -> list[DriftProblem]:
    problems = list(required_columns(chosen.entry, chosen.table))
    by_name = {fit.name: fit for fit in fits}
    misfits = await count_misfits(connection, stage)
    problems += [misfit(chosen.entry, by_name[name], rows) for name, rows in misfits.items()]
    if not same_schema:
        missing = await count_missing(connection, stage)
        problems += [null_in_required(chosen.entry, name, rows) for name, rows in missing.items()]
    return problems


class _Feed:
    """The frames of a bundle, handed out entry by entry; frames of entries that nobody wants are passed over.

    ``rows`` of frames were read, ``given`` of them handed out of the last entry.
    """

    def __init__(
        self,
        frames: AsyncGenerator[Frame, None] | AsyncGenerator[EncodedFrame, None],
        wanted: set[int],
        sieves: Mapping[int, Unpack],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._frames = frames
        self._wanted = wanted
        self._sieves = sieves
        self._threads = threads
        self._ahead: deque[tuple[Frame, asyncio.Future[list[bytes]]]] = deque()
        self._ended = False
        self.rows = 0
        self.given = 0
        self.content = hashlib.sha256()

    async def blocks(self, index: int) -> AsyncGenerator[bytes, None]:
        """The unpacked blocks of one entry. Entries must be asked for in the manifest's order."""
        self.given = 0
        while await self._look_ahead() and self._ahead[0][0].entry == index:
            frame, unpacking = self._ahead.popleft()
            self.rows += frame.rows
            for block in await unpacking:
                self.given += block.count(b"\n") if index in self._sieves else frame.rows
                yield block

    async def finish(self) -> None:
        """Read on to the seal. Raises what is wrong with the bundle."""
        if await self._look_ahead():
            raise WrongRowCount("The bundle has frames out of the order of its tables.")

    async def close(self) -> None:
        for _, unpacking in self._ahead:
            unpacking.cancel()
        await self._frames.aclose()

    async def _look_ahead(self) -> bool:
        """Keep some frames in the making; whether there is one."""
        while not self._ended and len(self._ahead) < _FRAMES_AHEAD:
            frame = await anext(self._frames, None)
            if frame is None:
                self._ended = True
                continue
            self.content.update(frame.digest)
            if frame.entry in self._wanted:
                unpack = self._sieves.get(frame.entry, _whole)
                unpacking = asyncio.get_running_loop().run_in_executor(self._threads, unpack, frame)
                self._ahead.append((frame, unpacking))
            else:
                self.rows += frame.rows
        return bool(self._ahead)


def _whole(frame: Frame) -> list[bytes]:
    return [decode_block(frame.load())]
