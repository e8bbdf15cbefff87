"""Leaving out of a restore what is known to be here (:mod:`agent.engine.known`): the same plan, only sooner made.

Rows that the earlier bundle has, too, are unchanged where their tables still hold what it brought.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from agent.database.merge import Merge
from agent.database.merge_write import by_table
from agent.database.moments import Moment, moment, quiet
from agent.database.transaction import Connection
from agent.database.untouched import Rows, has_triggers, mark_tables, untouched
from agent.engine.apply_work import Work
from agent.engine.bundle_file import Frame
from agent.engine.choices import NO_CHOICES
from agent.engine.known import Earlier, Known
from agent.engine.plan import RestorePlan
from agent.engine.restore_entries import Selection
from agent.engine.restore_staging import Unpack
from agent.reading import reading_earlier
from agent.tables.identity import natural_keys
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from protocol.base import Base, Matcher
from protocol.frames import decode_block
from protocol.manifest import Kind, Manifest, TableEntry

_NEWLINE = b"\n"
_HELD = 16
"""How many frames of an entry may have to be held back until it is clear whether all of it is known."""


def known_entries(
    earlier: Earlier, manifest: Manifest, schema: Schema, classification: Classification, selection: Selection
) -> dict[int, bool]:
    """The entries of another bundle of which rows may be known, by index; true where rows are only known if all of the
    entry are: their tables recognise rows by more than their ids, so all must be looked at together."""
    known, before = earlier.known, earlier.manifest
    fingerprints = {known.schema, manifest.schema_fingerprint, schema.fingerprint()}
    if before is None or fingerprints != {before.schema_fingerprint}:
        return {}
    places = {entry.table: (index, entry) for index, entry in enumerate(before.tables)}
    found = {}
    for chosen in selection.entries:
        name = chosen.table.name
        index, entry = places.get(name, (-1, None))
        if name not in known.tables or entry is None or index != chosen.index:
            continue
        whole = bool(natural_keys(name, schema, classification))
        first, end = earlier.base.range(index)
        if _alike(entry, chosen.entry, manifest) and not (whole and end - first > _HELD):
            found[index] = whole
    return found


def sieves(earlier: Earlier, manifest: Manifest, entries: Mapping[int, bool]) -> dict[int, Unpack]:
    """For each of these :func:`known_entries` of that bundle what unpacks its frames to the rows that may be new."""
    matcher = Matcher(earlier.base)
    matcher.meet(manifest)
    sieve = _Sieve(earlier.base, matcher, earlier.news.frames if earlier.news is not None else {})
    return {index: sieve.all_or_none if whole else sieve.news for index, whole in entries.items()}


def _alike(one: TableEntry, other: TableEntry, manifest: Manifest) -> bool:
    """Whether equal lines of both entries are equal rows; neither has a second entry for rows of other businesses."""
    alone = sum(entry.table == other.table for entry in manifest.tables) == 1
    return alone and not (one.stub or other.stub) and one.columns == other.columns


class _Sieve:
    """Leaves out the rows that are in the earlier bundle. Blocking, for one thread at a time; frames come in order.

    Raises ``Unreadable`` where the earlier bundle cannot be read any more.
    """

    def __init__(self, base: Base, matcher: Matcher, told: Mapping[bytes, tuple[int, int, bytes]]) -> None:
        self._base = base
        self._matcher = matcher
        self._told = told
        self._entry = -1
        self._held: list[int] | None = []

    def news(self, frame: Frame) -> list[bytes]:
        """The rows of the frame that the earlier bundle lacks, as one block or none."""
        if self._matcher.same(frame.entry, frame.digest) is not None:
            return []
        first, count, found = self._told.get(frame.digest, (0, 0, b""))
        if count and self._matcher.stands(frame.entry, first, count):
            return [found] if found else []
        block = decode_block(frame.load())
        with reading_earlier():
            first, count = self._matcher.alike(frame.entry, block)
            before = set(self._base.prefix(first, count).split(_NEWLINE)) if count else set()
        if not before:
            return [block]
        rows = set(block[:-1].split(_NEWLINE)) - before  # the order of rows in a stage is nobody's concern
        return [_NEWLINE.join([*rows, b""])] if rows else []

    def all_or_none(self, frame: Frame) -> list[bytes]:
        """The same for an entry of which all rows are wanted as soon as one is new: those held back come then."""
        if frame.entry != self._entry:
            self._entry, self._held = frame.entry, []
        number = self._matcher.same(frame.entry, frame.digest)
        if self._held is not None and number is not None:
            self._held.append(number)
            return []
        held, self._held = self._held or [], None
        with reading_earlier():
            return [*(self._base.block(number) for number in held), decode_block(frame.load())]


def all_here(work: Work, plan: RestorePlan) -> tuple[str, ...]:
    """The tables of which every row of the bundle will be here as it is in the bundle, once the plan is carried out."""
    if work.manifest.kind is not Kind.BUSINESS or work.choices != NO_CHOICES or work.renames.found or work.ahead:
        return ()
    cleared = {each.table for each in plan.cleared}
    merges = by_table(work.merges)
    found = []
    for name, counts in plan.tables.items():
        alone = merges.get(name) or (work.sifted[name],)
        whole = counts.rows == counts.insert + counts.update + counts.unchanged
        if len(alone) == 1 and _plain(alone[0]) and whole and not counts.left_out and name not in cleared:
            found.append(name)
    return tuple(found)


def _plain(merge: Merge) -> bool:
    return bool(merge.identity) and not (merge.stub or merge.greatest)


def still_holds(work: Work, known: Known) -> bool:
    """Whether rows are told apart and compared as they were then, and none of those that came takes another id."""
    same = all(
        _plain(merge) and known.tables[name] == (merge.identity, merge.compared) for name, merge in work.sifted.items()
    )
    return same and not work.renames.found


async def remember(
    connection: Connection,
    work: Work,
    plan: RestorePlan,
    earlier: Earlier | None,
    looked: Moment,
    own: Collection[int],
) -> Known | None:
    """What is to be known of the tables that hold the bundle's rows, now that all is written; before the commit.

    ``looked`` is the moment in which the ``earlier`` mark was held against them, ``own`` are the transactions that were
    begun here since. None where nothing was written to these tables: later nothing would show that the mark is of this
    database. Nor where triggers may have written other rows than those of the bundle.
    """
    names = all_here(work, plan)
    merges = {merge.stage.table.name: merge for merge in (*work.merges, *work.sifted.values())}
    if not names or await has_triggers(connection, work.tables):
        return None
    loaded = [merge.stage for merge in work.merges if merge.stage.loaded]
    counted = {stage.table.name: Rows(work.staged_rows(stage.index), work.staged_rows(stage.index)) for stage in loaded}
    if earlier is not None:
        # They were as the earlier mark says; whether those still are that nobody holds is asked below.
        before = earlier.known.mark
        for name in work.sifted:
            done = plan.tables[name]
            counted[name] = Rows(before.tables[name][1] + done.insert, done.insert + done.update, before)
    mark = await mark_tables(connection, [work.schema.tables[name] for name in names], counted)
    if not any(own for _, _, own in mark.tables.values()):
        return None
    # Whoever ends after the mark was at work when it was made, and is seen by it; whoever ended before it is seen here.
    if earlier is not None and not quiet(looked, await moment(connection), own):
        # Tables of which nothing was staged are held by nobody: they are as the mark says, and as the bundle says, if
        # even now nobody has touched them.
        loose = {work.manifest.tables[index].table for index in work.known}
        tables = [work.schema.tables[name] for name in sorted(loose)]
        same = await untouched(connection, earlier.known.mark, tables, again=True)
        mark = replace(mark, tables={name: mark.tables[name] for name in mark.tables if name not in loose - same})
    return Known(
        bundle_id=work.manifest.bundle_id,
        manifest=work.manifest.digest().hex(),
        content=work.content,
        schema=work.schema.fingerprint(),
        tables={name: (merges[name].identity, merges[name].compared) for name in mark.tables},
        mark=mark,
    )
