"""A drill: a bundle restored for real into a scratch database, compared row by row, written to."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from agent.database.digests import Question, Rows, table_digest
from agent.database.names import qualified
from agent.database.reflect import reflect
from agent.database.scratch import build, write_to
from agent.database.staging import create_text_stage
from agent.database.transaction import Connection, Isolation, commit, open_transaction
from agent.engine.bundle_file import BundleSource
from agent.engine.errors import EngineError
from agent.engine.progress import Progress, Step, silent
from agent.engine.restore import restore
from agent.engine.restore_entries import device_references, select_entries
from agent.engine.restore_staging import copy_entries
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification, classify
from agent.tables.schema import Column, Schema, Table, UniqueKey
from protocol.manifest import Manifest

_DOING = "The drill"
_NAME = r'(?:[A-Za-z_][A-Za-z0-9_]*|"[^"\x00]+")'
_TYPE = re.compile(rf"{_NAME}(?:\.{_NAME})?(?: [a-z]+)*(?:\(\d+(?:,-?\d+)?\))?(?: [a-z]+)*(?:\[\])*")


class StrangeType(EngineError):
    code = "strange-type"
    hint = "Whoever made this bundle did not use Backroom. Do not restore it."


@dataclass(frozen=True, slots=True)
class DrillResult:
    """``rows`` and ``tables`` compared; ``problems`` are sentences, none where all is well; ``left_out``: parts of the
    schema that could not be made in the scratch database."""

    rows: int
    tables: int
    problems: tuple[str, ...]
    left_out: tuple[str, ...]


async def hold_drill(
    url: str, source: BundleSource, catalogue: Catalogue, schema: Schema | None, *, progress: Progress = silent
) -> DrillResult:
    """Restore ``source`` into the empty scratch database at ``url``, compare and write.

    The scratch database plays the device that made the bundle, so that device state is tried as well; it is never this
    laptop's. ``schema`` is the platform's as it is now; without it the tables are made from what the manifest says.
    Raises what a restore raises: then the bundle could not be restored.
    """
    manifest = source.manifest
    progress(Step("making tables"))
    left_out = await build(url, schema or schema_of(manifest))
    await restore(url, source, catalogue, own_node=manifest.source_node, progress=progress)
    async with open_transaction(url, Isolation.COMMITTED, doing=_DOING) as connection:
        live = await reflect(connection)
        classification = classify(live, catalogue)
        rows, tables, problems = await _compare(connection, source, live, classification, progress)
        for name in sorted({entry.table for entry in manifest.tables if entry.rows} & set(live.tables)):
            progress(Step("writing", what=name))
            if problem := await write_to(connection, live.tables[name]):
                problems.append(problem)
        await commit(connection)
    return DrillResult(rows, tables, tuple(problems), left_out)


def schema_of(manifest: Manifest) -> Schema:
    """The tables as far as the manifest knows them: columns, types, enums and the key.

    Raises :class:`StrangeType` for a type that is more than a name: it would become part of a statement.
    """
    tables: dict[str, Table] = {}
    for entry in manifest.tables:
        for each in entry.columns:
            if not _TYPE.fullmatch(each.type):
                raise StrangeType(f"{entry.table}.{each.name} has a type that no database gives: {each.type!r}.")
        columns = tuple(Column(each.name, each.type, each.name in entry.key, enum=each.enum) for each in entry.columns)
        key = (UniqueKey(f"{entry.table}_pkey"[:63], entry.key, primary=True),) if entry.key else ()
        tables[entry.table] = Table(entry.table, "public", columns, key)
    return Schema(tables, manifest.enums)


async def _compare(
    connection: Connection,
    source: BundleSource,
    live: Schema,
    classification: Classification,
    progress: Progress,
) -> tuple[int, int, list[str]]:
    """Digests of all rows of each table here against those of the bundle, staged as the text that they are."""
    manifest = source.manifest
    selection = select_entries(manifest, live, classification, manifest.source_node)
    names = {chosen.index: f"backroom_drill_{chosen.index}" for chosen in selection.entries}
    for index, name in names.items():
        await create_text_stage(connection, name, [column.name for column in manifest.tables[index].columns])
    await copy_entries(connection, source, {index: ("pg_temp", name) for index, name in names.items()}, progress)
    stages: dict[str, list[int]] = defaultdict(list)
    for index in names:
        stages[manifest.tables[index].table].append(index)
    rows, problems = 0, []
    for done, (name, indexes) in enumerate(sorted(stages.items())):
        progress(Step("comparing", done, len(stages), name))
        table = live.tables[name]
        references = device_references(table, classification, selection.tables)
        local = {column for reference in references for column in reference.clears}
        columns = tuple(column.name for column in manifest.tables[indexes[0]].columns if column.name not in local)
        question = Question(name, columns, ())
        union = " UNION ALL ".join(f"SELECT * FROM pg_temp.{names[index]}" for index in indexes)
        kept = await table_digest(connection, Rows(f"({union}) t", text=True), question)
        restored = await table_digest(connection, Rows(f"{qualified(table)} t"), question)
        rows += restored.rows
        if kept.rows != restored.rows:
            problems.append(f"{name}: {restored.rows} rows were restored of {kept.rows}")
        elif kept != restored:
            problems.append(f"{name}: what was restored is not what the bundle holds")
    return rows, len(stages), problems
