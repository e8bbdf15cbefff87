"""All that a restore knows once its rows are staged, and how each stage meets its table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from agent.database.merge import Conflicts, Merge
from agent.database.merge_keys import Parking
from agent.database.merge_write import by_table
from agent.database.mirror import Victims
from agent.database.reidentify import Renames
from agent.database.staging import Stage
from agent.database.transaction import Connection
from agent.engine.choices import NO_CHOICES, Choices
from agent.engine.progress import Progress
from agent.engine.restore_entries import DeviceReference, Selection, device_references, row_identity
from agent.engine.restore_staging import Staged
from agent.tables.identity import id_columns
from agent.tables.infer import Classification
from agent.tables.schema import Schema, Table
from protocol.manifest import BusinessRef, Manifest


@dataclass(slots=True)
class Work:
    """A restore between staging and writing. What the plan finds out on the way is kept here for the writing:
    ``renames`` of ids, ``parkings`` of numbers, the ``victims`` of a mirror, and the merges as they meet the rows
    after that. ``content`` names all rows of the bundle, ``left_out`` and ``not_wanted`` count rows taken out of the
    stages, ``cleared`` references emptied in them. ``known`` are entries, by index, that were not staged since
    all of their rows are here; ``sifted`` has the merges of these and of entries of which only the rows that may differ
    were staged, by table. In ``ahead`` are tables with rows dated later than now, with their number."""

    connection: Connection
    manifest: Manifest
    schema: Schema
    classification: Classification
    selection: Selection
    merges: tuple[Merge, ...]
    references: dict[str, tuple[DeviceReference, ...]]
    conflicts: Conflicts
    choices: Choices
    progress: Progress
    renames: Renames
    content: str
    parkings: list[Parking] = field(default_factory=list)
    victims: dict[str, Victims] = field(default_factory=dict)
    left_out: Counter[int] = field(default_factory=Counter)
    not_wanted: Counter[int] = field(default_factory=Counter)
    cleared: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    business: BusinessRef | None = None
    known: frozenset[int] = frozenset()
    sifted: dict[str, Merge] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The live tables that may be written to, each once, by name. A mirror may empty one that the bundle has no
        rows of."""
        entries = self.manifest.tables if self.choices.mirror else ()
        names = {*by_table(self.merges), *(each.table for each in entries if each.table in self.schema.tables)}
        return tuple(self.schema.tables[name] for name in sorted(names))

    def keep_merges(self, kept: set[int], *, insert_only: set[int]) -> None:
        """Go on with these stages alone, by index; rows of some are inserted where missing and change nothing."""
        self.merges = tuple(
            replace(merge, stub=True) if merge.stage.index in insert_only else merge
            for merge in self.merges
            if merge.stage.index in kept
        )

    def staged_rows(self, index: int) -> int:
        """How many rows of the entry are still to be judged."""
        return self.manifest.tables[index].rows - self.left_out[index] - self.not_wanted[index]


def prepare(
    connection: Connection,
    manifest: Manifest,
    schema: Schema,
    classification: Classification,
    selection: Selection,
    staged: Staged,
    conflicts: Conflicts,
    progress: Progress,
    choices: Choices = NO_CHOICES,
) -> Work:
    """How each stage meets its table."""
    references = {
        name: device_references(schema.tables[name], classification, selection.tables) for name in selection.tables
    }
    work = Work(
        connection=connection,
        manifest=manifest,
        schema=schema,
        classification=classification,
        selection=selection,
        merges=(),
        references=references,
        conflicts=conflicts,
        choices=choices,
        progress=progress,
        renames=Renames(id_columns(schema, classification)),
        content=staged.content,
        business=manifest.business,
    )
    merges = tuple(_merge(work, staged.stages[chosen.index], chosen.entry.stub) for chosen in selection.entries)
    work.known = staged.known
    work.sifted = {merge.stage.table.name: merge for merge in merges if merge.stage.index in staged.sifted}
    work.merges = tuple(merge for merge in merges if merge.stage.index not in work.known)
    return work


def _merge(work: Work, stage: Stage, stub: bool) -> Merge:
    name = stage.table.name
    written = frozenset(stage.written)
    identity = row_identity(stage.table, written)
    local = {column for reference in work.references[name] for column in reference.clears}
    clock = work.classification.timestamp(stage.table)
    compared = tuple(column for column in stage.written if column not in identity and column not in local)
    conflicts = work.classification.conflicts.get(name, work.conflicts)
    greatest = () if work.choices.mirror else work.classification.rule(name).greatest
    return Merge(
        stage=stage,
        identity=identity,
        compared=compared,
        clock=clock if clock in written else None,
        conflicts=Conflicts.BUNDLE if work.choices.mirror else Conflicts(conflicts),
        stub=stub,
        greatest=tuple(column for column in greatest if column in compared),
    )


def with_ids_as_they_will_be(work: Work) -> None:
    """Let every merge read its live rows through the renames found so far."""
    work.merges = tuple(replace(merge, reading=work.renames.reading(merge.stage.table)) for merge in work.merges)
