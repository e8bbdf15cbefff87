"""Finding the rows here that are the same thing as rows of the bundle under another id, parents first."""

from __future__ import annotations

from dataclasses import replace

from agent.database.merge import Merge
from agent.database.merge_keys import decided
from agent.database.reidentify import find_renames
from agent.engine.apply_work import Work, with_ids_as_they_will_be
from agent.engine.plan import Unclear
from agent.tables.identity import belongs_to_business, natural_keys, numbered_by_database, only_key
from agent.tables.order import insert_order
from agent.tables.schema import UniqueKey


async def find_all_renames(work: Work) -> tuple[Unclear, ...]:
    """Fill ``work.renames``. What is found in a parent counts when its children are looked at, so that a category is
    recognised by its domain and name though the domain has another id too. Returns what is not clear."""
    wanted: dict[str, tuple[Merge, tuple[UniqueKey, ...]]] = {}
    for merge in work.merges:
        keys = _keys(work, merge)
        if keys and not merge.fresh:
            wanted[merge.stage.table.name] = (merge, keys)
    unclear: list[Unclear] = []
    for component in insert_order(work.schema, wanted):
        # Where natural keys lead back into the component, one rename can make way for the next.
        again = any(_looks_into(work, name, component, wanted[name][1]) for name in component)
        while True:
            gained = False
            unclear = [each for each in unclear if each.table not in component]
            for name in component:
                merge, keys = wanted[name]
                before = work.renames.found.get(name)
                reading = replace(merge, reading=work.renames.reading(merge.stage.table))
                rule = work.classification.rule(name)
                numbered = numbered_by_database(name, work.schema)
                found, vague = await find_renames(
                    work.connection,
                    reading,
                    keys,
                    work.renames,
                    by_nature=rule.whole or rule.common or numbered,
                    numbered=numbered,
                )
                unclear += [Unclear(each.table, each.rows, each.examples) for each in vague]
                gained |= found is not None and (before is None or before.rows != found.rows)
            if not (gained and again):
                break
    if work.renames.found:
        with_ids_as_they_will_be(work)
    return tuple(unclear)


def _keys(work: Work, merge: Merge) -> tuple[UniqueKey, ...]:
    table = merge.stage.table
    if work.manifest.tables[merge.stage.index].stub or len(merge.identity) != 1 or merge.identity[0] != only_key(table):
        return ()
    if work.choices.as_new is not None and belongs_to_business(table.name, work.schema, work.classification):
        return ()
    found = natural_keys(table.name, work.schema, work.classification)
    return tuple(key for key in found if decided(merge, key))


def _looks_into(work: Work, name: str, component: tuple[str, ...], keys: tuple[UniqueKey, ...]) -> bool:
    inside = {each.column for each in work.renames.ids[name] if each.parent in component}
    return any(inside & set(key.columns) for key in keys)
