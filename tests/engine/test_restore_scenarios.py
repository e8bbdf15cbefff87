"""What becomes of rows, as the table of cases in ``scenarios.toml`` says: plan equal to apply, and back again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.database.merge import Conflicts
from agent.engine.choices import Choices
from agent.engine.errors import EngineError
from agent.engine.known import Earlier
from agent.engine.plan import TableCounts
from agent.peers.delta import BaseFile
from protocol.manifest import Kind
from tests.engine.test_undo import Undos
from tests.support.restores import Laptop
from tests.support.shops import laptop, pair

pytestmark = pytest.mark.every_server

__all__ = ["laptop", "pair"]

_DATA = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = _DATA["case"]
_CHOICES = ("mirror", "keep_local", "renumber", "as_new", "with_history")
_FIELDS = {
    *("name", "schema", "tables", "here", "there", "business", "conflicts", "only", "counts", "then", "error"),
    *("again", "undo", "renumbered", "cleared", *_CHOICES),
}


def test_the_table_of_cases_is_well_formed() -> None:
    assert [set(case) - _FIELDS for case in CASES] == [set()] * len(CASES)
    assert len({case["name"] for case in CASES}) == len(CASES)


async def _made(pair: Any, case: dict[str, Any]) -> tuple[Laptop, Laptop]:
    tables = _DATA["schemas"].get(case.get("tables"))
    made: tuple[Laptop, Laptop] = await pair(
        _DATA["schemas"][case["schema"]], case.get("here", ""), case.get("there", ""), tables
    )
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_scenario(pair: Any, case: dict[str, Any], tmp_path: Path) -> None:
    here, there = await _made(pair, case)
    business = case.get("business")
    bundle = await here.bundle(Kind.BUSINESS if business else Kind.FULL, business)
    choices = Choices(only=tuple(case.get("only", ())), **{name: case[name] for name in _CHOICES if name in case})
    options = {"conflicts": Conflicts(case.get("conflicts", "bundle")), "choices": choices}
    before = await there.contents()
    if "error" in case:
        with pytest.raises(EngineError) as caught:
            await there.restore(bundle, **options)
        assert caught.value.code == case["error"], str(caught.value)
        assert await there.contents() == before
        return
    plan = await there.plan(bundle, **options)
    assert await there.contents() == before
    undos = Undos(there, tmp_path)
    result = await there.restore(bundle, expected=plan.digest, keeper=undos.keeper, **options)
    assert result.plan == plan
    changed = {name: counts for name, counts in plan.tables.items() if counts.changes or counts.left_out}
    assert changed == {name: TableCounts(**counts) for name, counts in case.get("counts", {}).items()}
    if "renumbered" in case:
        assert [[each.table, each.old, each.new] for each in plan.renumbered] == case["renumbered"]
    if "cleared" in case:
        assert {each.table: each.rows for each in plan.cleared} == case["cleared"]
    for query, expected in case.get("then", {}).items():
        assert str(await there.value(query)) == expected, query
    if result.known is not None:
        file, base = BaseFile(bundle.manifest.bundle_id, bundle.path).open()
        with file:
            sooner = await there.plan(bundle, earlier=Earlier(result.known, base), **options)
        assert sooner == await there.plan(bundle, **options)
    if case.get("again", True):
        assert (await there.restore(bundle, **options)).plan.totals.changes == 0
    if case.get("undo", True) and result.undo is not None:
        await undos.undo(await undos.bundle())
        assert await there.contents() == before
