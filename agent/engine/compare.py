"""Whether two sides hold the same business: identical, or how many rows differ (DESIGN section 5).

Two rounds where they are equal: shapes, then one digest a table. Only tables that differ are looked into, range by
range and then row by row. Sides are anything that answers these questions: this laptop's database, a bundle, another
laptop over the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from agent.database.digests import Digest, Question
from agent.engine.compare_shapes import TableShape, ask, split_key, stamp_of
from agent.engine.progress import Progress, Step, silent

_ROWS_AT_ONCE = 50_000
_EXAMPLES = 5


class Side(Protocol):
    """One side of a comparison: the rows of one business at one moment, rows of other businesses not among them."""

    async def shapes(self) -> Mapping[str, TableShape]:
        """The tables that can be compared, by name."""
        ...

    async def digests(self, questions: Sequence[Question]) -> Mapping[str, Digest]:
        """One digest for each table asked for."""
        ...

    async def ranges(self, question: Question, other: Awaitable[Mapping[int, Digest]]) -> Mapping[int, Digest]:
        """The digests of the ranges that have rows. ``other`` are those of the other side, for whom asking costs."""
        ...

    async def rows(self, question: Question, ranges: Sequence[int]) -> Mapping[str, str]:
        """Digest by key of the rows in these ranges; without a key, how many rows (as text) by digest."""
        ...

    async def needed(self, question: Question, keys: Sequence[str]) -> frozenset[str]:
        """Which of these rows the business itself has or needs; the others only stand beside it in reference tables.

        Asked last: the side may forget what the other questions were about.
        """
        ...


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One table: rows that differ, that only one side has, and rows of reference data that only one side has and that
    the business does not use (these do not count as a difference). ``examples`` are keys as text.

    Of the rows that differ, ``newer_here`` and ``newer_there`` were changed later on that side; for the others nobody
    can tell (no time, or the same).
    """

    table: str
    rows_here: int
    rows_there: int
    differ: int = 0
    only_here: int = 0
    only_there: int = 0
    reference_only_here: int = 0
    reference_only_there: int = 0
    examples: tuple[str, ...] = ()
    newer_here: int = 0
    newer_there: int = 0

    @property
    def identical(self) -> bool:
        return not (self.differ or self.only_here or self.only_there)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result. ``tables`` has every table that has rows on a side; ``notes`` say what could not be compared."""

    tables: Mapping[str, TableComparison]
    notes: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        return all(table.identical for table in self.tables.values())

    @property
    def newer_here(self) -> int:
        """Rows that this side alone has, or that were changed later here: what a push from here would bring there."""
        return sum(table.only_here + table.newer_here for table in self.tables.values())

    @property
    def newer_there(self) -> int:
        """The same of the other side."""
        return sum(table.only_there + table.newer_there for table in self.tables.values())

    @property
    def undated(self) -> int:
        """Rows that differ, and nobody can tell which side changed them later."""
        return sum(table.differ - table.newer_here - table.newer_there for table in self.tables.values())

    @property
    def rows(self) -> int:
        """Rows compared, as this side counts them."""
        return sum(table.rows_here for table in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "identical": self.identical,
            "rows": self.rows,
            "newer_here": self.newer_here,
            "newer_there": self.newer_there,
            "tables": {name: asdict(table) for name, table in self.tables.items()},
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Found:
    """What is known of one table while it is being looked into."""

    question: Question
    here: Digest
    there: Digest
    differ: int
    differing: list[str]
    only_here: dict[str, int]
    only_there: dict[str, int]
    newer_here: int = 0
    newer_there: int = 0


async def compare(here: Side, there: Side, *, progress: Progress = silent) -> Comparison:
    """Compare the business on both sides. Raises what the sides raise."""
    progress(Step("comparing"))
    ours = await here.shapes()
    # Another laptop digests its tables before it tells of them. Ours are digested meanwhile, for the questions that
    # come where the tables are alike; what comes otherwise is asked then.
    expected, _ = ask(ours, ours)
    expecting = asyncio.create_task(here.digests(expected))
    try:
        theirs = await there.shapes()
        our_digests = dict(await expecting)
    finally:
        expecting.cancel()
        await asyncio.gather(expecting, return_exceptions=True)
    questions, notes = ask(ours, theirs)
    progress(Step("comparing", 0, len(questions)))
    others = [question for question in questions if question not in expected]
    again, their_digests = await asyncio.gather(here.digests(others), there.digests(questions))
    asked = {question.table for question in questions}
    our_digests = {name: digest for name, digest in our_digests.items() if name in asked} | dict(again)
    found = []
    for place, question in enumerate(questions):
        progress(Step("comparing", place, len(questions), question.table))
        digests = our_digests[question.table], their_digests[question.table]
        if digests[0] != digests[1]:
            stamp = stamp_of(question, ours[question.table], theirs[question.table])
            found.append(await _look_into(here, there, question, stamp, *digests))
    tables = {
        question.table: TableComparison(question.table, digest.rows, their_digests[question.table].rows)
        for question in questions
        if (digest := our_digests[question.table]).rows or their_digests[question.table].rows
    }
    for each in found:
        tables[each.question.table] = await _judge(here, there, each)
    for name, side in (*((name, "here") for name in ours), *((name, "there") for name in theirs)):
        if name not in our_digests:
            notes.append(f"The table {name} exists only {side}; it was not compared.")
    return Comparison(dict(sorted(tables.items())), tuple(notes))


async def _look_into(
    here: Side, there: Side, question: Question, stamp: str | None, ours: Digest, theirs: Digest
) -> _Found:
    found = _Found(question, ours, theirs, 0, [], {}, {})
    # With the time of its last change beside the key, the list of rows tells which is newer: nothing more is asked.
    asked = question if stamp is None else replace(question, key=(*question.key, stamp))
    nothing: asyncio.Future[Mapping[int, Digest]] = asyncio.get_running_loop().create_future()
    ours_coming = asyncio.ensure_future(here.ranges(asked, nothing))
    try:
        their_ranges = await there.ranges(asked, ours_coming)
        our_ranges = await ours_coming
    finally:
        nothing.cancel()
        ours_coming.cancel()
    places = sorted(
        place for place in set(our_ranges) | set(their_ranges) if our_ranges.get(place) != their_ranges.get(place)
    )
    lonely: tuple[dict[str, str], dict[str, str]] = {}, {}
    for batch in _batches(places, our_ranges, their_ranges):
        our_rows, their_rows = await asyncio.gather(here.rows(asked, batch), there.rows(asked, batch))
        if not question.key:
            found.only_here |= _surplus(our_rows, their_rows)
            found.only_there |= _surplus(their_rows, our_rows)
            continue
        differing = [key for key, digest in our_rows.items() if their_rows.get(key, digest) != digest]
        found.differ += len(differing)
        found.differing += [split_key(key, stamp)[0] for key in differing[:_EXAMPLES]]
        lonely[0].update(split_key(key, stamp) for key in our_rows.keys() - their_rows.keys())
        lonely[1].update(split_key(key, stamp) for key in their_rows.keys() - our_rows.keys())
    _meet(found, *lonely)
    return found


def _meet(found: _Found, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """Rows under one key with two times differ; PostgreSQL's text of times sorts as the times do."""
    both = sorted(ours.keys() & theirs.keys())
    found.differ += len(both)
    found.differing += both[:_EXAMPLES]
    found.newer_here = sum(1 for key in both if theirs[key] and ours[key] > theirs[key])
    found.newer_there = sum(1 for key in both if ours[key] and theirs[key] > ours[key])
    found.only_here |= dict.fromkeys(ours.keys() - theirs.keys(), 1)
    found.only_there |= dict.fromkeys(theirs.keys() - ours.keys(), 1)


def _surplus(some: Mapping[str, str], others: Mapping[str, str]) -> dict[str, int]:
    more = {content: int(rows) - int(others.get(content, "0")) for content, rows in some.items()}
    return {content: rows for content, rows in more.items() if rows > 0}


def _batches(places: Sequence[int], *sides: Mapping[int, Digest]) -> list[list[int]]:
    """The ranges to list, in batches of bounded rows."""
    batches: list[list[int]] = []
    room = 0
    for place in places:
        rows = max(side[place].rows if place in side else 0 for side in sides)
        if rows > room or not batches:
            batches.append([])
            room = _ROWS_AT_ONCE
        batches[-1].append(place)
        room -= rows
    return batches


async def _judge(here: Side, there: Side, found: _Found) -> TableComparison:
    ours, theirs = list(found.only_here), list(found.only_there)
    needed_here = await here.needed(found.question, ours) if ours else frozenset()
    needed_there = await there.needed(found.question, theirs) if theirs else frozenset()
    only_here = sum(rows for key, rows in found.only_here.items() if key in needed_here)
    only_there = sum(rows for key, rows in found.only_there.items() if key in needed_there)
    examples = [*found.differing, *sorted(needed_here), *sorted(needed_there)] if found.question.key else []
    return TableComparison(
        table=found.question.table,
        rows_here=found.here.rows,
        rows_there=found.there.rows,
        differ=found.differ,
        only_here=only_here,
        only_there=only_there,
        reference_only_here=sum(found.only_here.values()) - only_here,
        reference_only_there=sum(found.only_there.values()) - only_there,
        examples=tuple(examples[:_EXAMPLES]),
        newer_here=found.newer_here,
        newer_there=found.newer_there,
    )
