"""The mirror in plan and apply: which rows go, and in which order."""

from __future__ import annotations

from agent.database.merge_write import by_table
from agent.database.mirror import InTheWay, Victims, delete_now, delete_rows, find_victims, in_the_way
from agent.database.ownership import NEVER, Ownership
from agent.engine.apply_work import Work
from agent.engine.progress import Step
from agent.engine.restore_errors import MirrorBlocked, MirrorRefused, listed
from agent.tables.catalogue import TableClass
from agent.tables.order import insert_order
from agent.tables.scope import need_edges
from protocol.manifest import Kind, Section


def mirrored_tables(work: Work) -> tuple[str, ...]:
    """The tables whose rows a mirror may delete: those of the bundle that belong to businesses, and no shared one."""
    if not work.choices.mirror:
        return ()
    found = {entry.table for entry in work.manifest.tables if entry.section is Section.BUSINESS}
    found -= {work.classification.businesses}
    return tuple(
        name
        for name in sorted(found & set(work.schema.tables))
        if (rule := work.classification.rule(name)).table_class is TableClass.BUSINESS
        and not (rule.whole or rule.common or rule.shared)
    )


async def find_all_victims(work: Work) -> None:
    """Fill ``work.victims``. Raises ``MirrorRefused`` for anything but one business, and ``MirrorBlocked`` with the
    rows outside that refer to rows which would go."""
    if work.manifest.kind is not Kind.BUSINESS or work.manifest.business is None:
        raise MirrorRefused(f"Only a bundle of one business can be mirrored; this one is {work.manifest.kind.value}.")
    ownership = Ownership(work.schema, work.classification, (work.manifest.business.id,))
    grouped = by_table(work.merges)
    for name in mirrored_tables(work):
        ours = ownership.ours(name, "l")
        if ours == NEVER:
            continue
        work.progress(Step("looking for rows that go", what=name))
        found = await find_victims(work.connection, work.schema.tables[name], ours, grouped.get(name, ()), work.renames)
        if found is not None:
            work.victims[name] = found
    blocked: list[InTheWay] = []
    for child in work.schema.tables.values() if work.victims else ():
        for edge in need_edges(child.name, work.schema, work.classification):
            parent = work.victims.get(edge.parent)
            if parent is None:
                continue
            own, merges = work.victims.get(child.name), grouped.get(child.name, ())
            way = await in_the_way(work.connection, child, edge, parent, own, merges)
            blocked += [way] if way else []
    if blocked:
        raise MirrorBlocked(
            listed("Rows that are not this business's, or shared ones, refer to rows that would go:", blocked),
            details=blocked,
        )


def victim_identity(work: Work, victims: Victims) -> tuple[str, ...]:
    """The columns that tell the victims apart; () where addresses must do."""
    merges = by_table(work.merges).get(victims.table.name)
    return merges[0].identity if merges else victims.table.identity


async def delete_first(work: Work) -> dict[str, int]:
    """Delete the rows without identity, which nothing refers to."""
    return {
        name: await delete_now(work.connection, victims)
        for name, victims in work.victims.items()
        if not victim_identity(work, victims)
    }


async def delete_last(work: Work) -> dict[str, int]:
    """Delete the other rows, children before parents, when everything else is as it should be."""
    done: dict[str, int] = {}
    identities = {name: victim_identity(work, victims) for name, victims in work.victims.items()}
    for component in reversed(insert_order(work.schema, work.victims)):
        several = [work.victims[name] for name in component if identities[name]]
        if several:
            work.progress(Step("deleting", what=", ".join(component)))
            done |= await delete_rows(work.connection, several, identities)
    return done
