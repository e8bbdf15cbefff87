"""A second business from a bundle (``--as-new``): what it owns under new ids, what it shares matched, history left."""

from __future__ import annotations

from agent.database.clone import name_taken, new_ids, rename_copy, take_new_ids
from agent.database.merge_write import by_table
from agent.database.names import literal, quote
from agent.database.stage_marks import Marks, Path
from agent.engine.apply_leave import Leaving
from agent.engine.apply_work import Work
from agent.engine.restore_errors import CloneRefused
from agent.tables.identity import only_key
from agent.tables.scope import travel_edges
from protocol.manifest import BusinessRef, Kind


async def make_second_business(work: Work, name: str) -> None:
    """Turn the staged business into one named ``name``. From then on every row is only inserted where it is missing:
    nothing that is here changes. Raises ``CloneRefused``."""
    business = work.manifest.business
    if work.manifest.kind is not Kind.BUSINESS or business is None:
        raise CloneRefused("A second business can be made from a bundle of one business only.")
    table = work.classification.businesses
    merges = [each for each in by_table(work.merges).get(table, ()) if not each.stub]
    column = next((each for each in work.classification.labels if merges and each in merges[0].compared), None)
    if column is None or not merges[0].identity:
        raise CloneRefused(f"The bundle has no named row in {table}.")
    if await name_taken(work.connection, merges[0], column, name):
        raise CloneRefused(f"There is a business named {name} here already.")
    if not work.choices.with_history:
        await _leave_history(work)
    marks = await _own_rows(work, merges[0].identity[0], business.id)
    renewed = set()
    for each, staged in by_table(work.merges).items():
        addresses = {m.stage.index: rows for m in staged if (rows := marks.relation(m)) is not None}
        key = only_key(work.schema.tables[each])
        if not addresses or staged[0].identity != (key,) or any(ids.column == key for ids in work.renames.ids[each]):
            continue
        try:
            if await new_ids(work.connection, staged, addresses, f"{work.manifest.bundle_id}:{name}"):
                renewed.add(each)
        except ValueError as error:
            raise CloneRefused(f"Rows of {each} cannot be given new ids: their key is {error}.") from error
    for merge in work.merges:
        await take_new_ids(work.connection, merge, frozenset(renewed), work.renames.ids[merge.stage.table.name])
    identifier = await rename_copy(work.connection, merges[0], column, name, business.id)
    if identifier is None:
        raise CloneRefused(f"The bundle does not have the row of {business.name} in {table}.")
    work.business = BusinessRef(identifier, name)
    every = {merge.stage.index for merge in work.merges}
    work.keep_merges(every, insert_only=every)


async def _leave_history(work: Work) -> None:
    leaving = Leaving(work, absent=False)
    for merge in work.merges:
        if work.classification.rule(merge.stage.table.name).history:
            await leaving.marks.add(merge, f"SELECT b.ctid FROM {merge.stage.relation} b")
    await leaving.carry_out()


async def _own_rows(work: Work, key: str, business: str) -> Marks:
    """The staged rows that belong to the business, as the edges by which rows travel say."""
    own = {name: merges for name, merges in by_table(work.merges).items() if not _shared(work, name)}
    marks = Marks(work.connection, "own", {name: [m for m in each if not m.stub] for name, each in own.items()})
    for merge in own[work.classification.businesses]:
        if not merge.stub:
            where = f"b.{quote(key)}::text = {literal(business)}"
            await marks.add(merge, f"SELECT b.ctid FROM {merge.stage.relation} b WHERE {where}")
    paths = [
        Path(edge.parent, name, ((edge.parent_column, edge.column),), edge.unset)
        for name in own
        for edge in travel_edges(name, work.schema, work.classification)
    ]
    await marks.spread(paths)
    return marks


def _shared(work: Work, name: str) -> bool:
    rule = work.classification.rule(name)
    return rule.whole or rule.common
