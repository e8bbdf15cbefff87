"""Looking into a bundle: every block unpacked, every row counted into its columns, every reference followed.

The manifest has no foreign keys, so the references are those of a schema that the caller has: the one that the bundle
was made from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.engine.progress import Progress, Step, silent
from agent.reading import Opener, plainly
from agent.tables.schema import Schema
from protocol.frames import decode_block
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.manifest import Manifest, TableEntry
from protocol.reader import BundleReader, FrameRead

_CHUNK_BYTES = 1 << 20
_NULL = b"\\N"


@dataclass(frozen=True, slots=True)
class Edge:
    """A foreign key between two tables of a bundle; ``columns`` point at ``parent_columns``, pairwise."""

    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.child}.{'+'.join(self.columns)} -> {self.parent}"


@dataclass(frozen=True, slots=True)
class LookedInto:
    """What was found. ``problems`` are sentences; ``references`` counts those that were followed."""

    rows: int
    edges: int
    references: int
    problems: tuple[str, ...]


def bundle_edges(manifest: Manifest, schema: Schema) -> tuple[Edge, ...]:
    """The foreign keys of ``schema`` whose both ends are in the bundle."""
    held: dict[str, set[str]] = {}
    for entry in manifest.tables:
        held.setdefault(entry.table, {column.name for column in entry.columns})
    return tuple(
        Edge(table.name, key.columns, key.references, key.references_columns)
        for name in sorted(held)
        if (table := schema.tables.get(name)) is not None
        for key in table.foreign_keys
        if set(key.columns) <= held[name] and set(key.references_columns) <= held.get(key.references, set())
    )


def look_into(
    path: Path,
    edges: Sequence[Edge],
    *,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = silent,
    opener: Opener = plainly,
) -> LookedInto:
    """Read the file twice: once for the keys that are referred to, once for the references. Blocking: run in a thread.

    The file has been verified before. Takes some 100 bytes of memory for each row that can be referred to. Raises
    ``protocol.errors.BundleError`` for a block that does not unpack to what it says, and ``OSError``.
    """
    wanted: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for edge in edges:
        wanted[edge.parent].add(edge.parent_columns)
    keys: dict[tuple[str, tuple[str, ...]], set[int]] = defaultdict(set)
    problems: dict[str, int] = defaultdict(int)
    rows = 0
    for manifest, entry, block in _blocks(path, limits, opener):
        places = [(columns, _places(entry, columns)) for columns in wanted[entry.table]]
        tabs = len(entry.columns) - 1
        for line in block.split(b"\n")[:-1]:
            rows += 1
            if line.count(b"\t") != tabs:
                problems[f"{entry.table}: rows that do not have the {tabs + 1} columns of the manifest"] += 1
                continue
            fields = line.split(b"\t") if places else []
            for columns, place in places:
                keys[entry.table, columns].add(hash(tuple(fields[each] for each in place)))
        progress(Step("reading", rows, 2 * manifest.total_rows, entry.table))
    references = 0
    outgoing: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        outgoing[edge.child].append(edge)
    done = rows
    for manifest, entry, block in _blocks(path, limits, opener):
        checks = [
            (edge, _places(entry, edge.columns), keys[edge.parent, edge.parent_columns])
            for edge in outgoing[entry.table]
        ]
        lines = block.split(b"\n")[:-1]
        done += len(lines)
        for line in lines if checks else ():
            fields = line.split(b"\t")
            if len(fields) != len(entry.columns):
                continue
            for edge, place, known in checks:
                value = tuple(fields[each] for each in place)
                if _NULL in value:
                    continue
                references += 1
                if hash(value) not in known:
                    problems[f"{edge}: rows that refer to rows which are not in the bundle"] += 1
        progress(Step("following", done, 2 * manifest.total_rows, entry.table))
    told = tuple(f"{what} ({number})" for what, number in problems.items())
    return LookedInto(rows, len(edges), references, told)


def _places(entry: TableEntry, columns: Sequence[str]) -> tuple[int, ...]:
    names = [column.name for column in entry.columns]
    return tuple(names.index(column) for column in columns)


def _blocks(path: Path, limits: Limits, opener: Opener) -> Iterator[tuple[Manifest, TableEntry, bytes]]:
    reader = BundleReader(limits)
    with opener(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            for event in reader.feed(chunk):
                if isinstance(event, FrameRead):
                    assert reader.manifest is not None
                    yield reader.manifest, reader.manifest.tables[event.frame.entry], decode_block(event.frame, limits)
    reader.close()
