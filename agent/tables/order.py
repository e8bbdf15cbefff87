"""The order in which tables can be filled: parents before children, cycles together. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from agent.tables.schema import Schema


def insert_order(schema: Schema, tables: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Strongly connected components of the foreign-key graph over ``tables``, parents first.

    A table in no cycle, or one that only refers to itself, is a component of its own. Names within a component and
    among components without an order of their own are sorted, so that equal input gives equal output
    (Tarjan 1972, iterative: the schema doubles in a year and Python's recursion is bounded).
    """
    wanted = sorted(set(tables) & set(schema.tables))
    members = set(wanted)
    parents = {
        name: sorted({key.references for key in schema.tables[name].foreign_keys} & members - {name}) for name in wanted
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[tuple[str, ...]] = []

    for root in wanted:
        if root in index:
            continue
        work = [(root, iter(parents[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, remaining = work[-1]
            for parent in remaining:
                if parent not in index:
                    index[parent] = low[parent] = len(index)
                    stack.append(parent)
                    on_stack.add(parent)
                    work.append((parent, iter(parents[parent])))
                    break
                if parent in on_stack:
                    low[name] = min(low[name], index[parent])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == name:
                            break
                    components.append(tuple(sorted(component)))
    return tuple(components)
