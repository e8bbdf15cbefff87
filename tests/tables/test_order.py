"""The order in which tables can be filled."""

from __future__ import annotations

import random
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from agent.tables.order import insert_order
from agent.tables.schema import Schema
from tests.support.tables import table


def graph(**links: str) -> Schema:
    """Tables by name with the tables that each refers to."""
    made = {}
    for name, targets in links.items():
        columns = " ".join(f"c{place}" for place, _ in enumerate(targets.split()))
        keys = [f"c{place} -> {target}.id" for place, target in enumerate(targets.split())]
        made[name] = table(name, f"id! {columns}", *keys)
    return Schema(made)


def test_parents_come_first() -> None:
    assert insert_order(graph(a="b c", b="c", c=""), "abc") == (("c",), ("b",), ("a",))


def test_a_table_that_refers_to_itself_is_alone() -> None:
    assert insert_order(graph(a="a", b="a b"), "ab") == (("a",), ("b",))


def test_a_circle_is_one_component_between_its_parents_and_children() -> None:
    assert insert_order(graph(a="b", b="c d", c="a", d="", e="c"), "abcde") == (("d",), ("a", "b", "c"), ("e",))


def test_only_wanted_tables_count() -> None:
    assert insert_order(graph(a="b", b="c", c=""), ["a", "c", "none"]) == (("a",), ("c",))


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    links = {f"t{number:05}": f"t{number + 1:05}" for number in range(5000)} | {"t05000": ""}
    assert insert_order(graph(**links), links)[0] == ("t05000",)


@given(st.integers(0, 1 << 32))
def test_every_table_once_and_no_reference_forward(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"t{number}" for number in range(rng.randint(1, 12))]
    tables = graph(**{name: " ".join(rng.choices(names, k=rng.randint(0, 3))) for name in names})
    order = insert_order(tables, names)
    assert sorted(chain(*order)) == sorted(names)
    place = {name: number for number, component in enumerate(order) for name in component}
    for name in names:
        for key in tables.tables[name].foreign_keys:
            assert place[key.references] <= place[name]
    for component in order:
        for name in component:
            assert len(component) == 1 or set(component) <= _reachable(tables, name)


def _reachable(tables: Schema, start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for key in tables.tables[ahead.pop()].foreign_keys:
            if key.references not in seen:
                seen.add(key.references)
                ahead.append(key.references)
    return seen
