"""What becomes of rows, as the table of cases in ``scenarios.toml`` says: plan equal to apply, and back again."""

from __future__ import annotations

import tomllib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choices import Choices
from agent.engine.errors import EngineError
from agent.engine.known import Earlier
from agent.engine.plan import TableCounts
from agent.peers.delta import BaseFile
from protocol.manifest import Kind
from tests.engine.test_restore_known import files
from tests.engine.test_restore_loading import load_from
from tests.engine.test_undo import Undos
from tests.support.restores import Laptop, verify_as
from tests.support.shops import laptop, pair
from tests.support.ways import as_pushed, change_some

pytestmark = pytest.mark.every_server

__all__ = ["files", "laptop", "pair"]

_DATA = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = _DATA["case"]
_CHOICES = ("mirror", "keep_local", "renumber", "as_new", "with_history")
_FIELDS = {
    *("name", "schema", "tables", "here", "there", "business", "conflicts", "only", "counts", "then", "error"),
    *("again", "undo", "renumbered", "cleared", *_CHOICES),
}

PLAIN = [case for case in CASES if not {"only", *_CHOICES} & set(case)]
"""Those without choices: with any, the plain path is the only one."""


def test_the_table_of_cases_is_well_formed() -> None:
    assert [set(case) - _FIELDS for case in CASES] == [set()] * len(CASES)
    assert len({case["name"] for case in CASES}) == len(CASES)


async def _made(pair: Any, case: dict[str, Any]) -> tuple[Laptop, Laptop]:
    tables = _DATA["schemas"].get(case.get("tables"))
    made: tuple[Laptop, Laptop] = await pair(
        _DATA["schemas"][case["schema"]], case.get("here", ""), case.get("there", ""), tables
    )
    return made


def _choices(case: dict[str, Any]) -> Choices:
    return Choices(only=tuple(case.get("only", ())), **{name: case[name] for name in _CHOICES if name in case})


async def _bundle(here: Laptop, case: dict[str, Any], after: VerifiedBundle | None = None) -> VerifiedBundle:
    business = case.get("business")
    return await here.bundle(Kind.BUSINESS if business else Kind.FULL, business, after=after)


async def _play(there: Laptop, bundle: VerifiedBundle, case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Restore the bundle as the case says, and take it back; what was there in between."""
    options = {"conflicts": Conflicts(case.get("conflicts", "bundle")), "choices": _choices(case)}
    before = await there.contents()
    if "error" in case:
        with pytest.raises(EngineError) as caught:
            await there.restore(bundle, **options)
        assert caught.value.code == case["error"], str(caught.value)
        assert await there.contents() == before
        return before
    plan = await there.plan(bundle, **options)
    assert await there.contents() == before
    undos = Undos(there, folder)
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
    after = await there.contents()
    if case.get("again", True):
        assert (await there.restore(bundle, **options)).plan.totals.changes == 0
    if case.get("undo", True) and result.undo is not None:
        await undos.undo(await undos.bundle())
        assert await there.contents() == before
    return after


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_scenario(pair: Any, case: dict[str, Any], tmp_path: Path) -> None:
    here, there = await _made(pair, case)
    await _play(there, await _bundle(here, case), case, tmp_path)


async def _as_plainly(there: Laptop, bundle: VerifiedBundle, after: dict[str, Any], **options: Any) -> None:
    """What was restored by a fast path and taken back comes by the plain one, too."""
    assert (await there.restore(bundle, **options)).plan.totals.changes
    assert await there.contents() == after


@pytest.mark.one_server
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["name"])
async def test_scenario_with_rows_that_go_straight_into_tables(
    pair: Any, case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await _made(pair, case)
    bundle = await _bundle(here, case)
    with monkeypatch.context() as patched:
        load_from(patched, 1)
        after = await _play(there, bundle, case, tmp_path)
    if case.get("undo", True) and "error" not in case:
        await _as_plainly(there, bundle, after, conflicts=Conflicts(case.get("conflicts", "bundle")))


@pytest.mark.one_server
@pytest.mark.parametrize("case", [case for case in CASES if "error" not in case], ids=lambda case: case["name"])
async def test_the_bundle_of_a_scenario_is_the_same_by_each_way(
    pair: Any, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent while it is made, as a delta with edits, verified as it comes; made of the last one if nobody touched it."""
    here, _ = await _made(pair, case)
    bundle = await _bundle(here, case)
    again = await _bundle(here, case, bundle)
    assert replace(again.manifest, bundle_id="") == replace(bundle.manifest, bundle_id="")
    assert [frame async for frame in again.frames()] == [frame async for frame in bundle.frames()]
    came, _ = await as_pushed(again, bundle, here.node, monkeypatch)
    assert replace(came, path=again.path) == again
    await change_some(here)
    came, _ = await as_pushed(await _bundle(here, case), bundle, here.node, monkeypatch)
    assert came == await verify_bundle(came.path, verify_as(here.node))


BALLAST = """
INSERT INTO business_products (id, "businessId", sku, price)
SELECT 'ballast-' || n, 'b1', 'ballast-' || n, n FROM generate_series(1, 80) n
"""
"""So many rows that few of them changed are told as edits."""


@pytest.mark.one_server
@pytest.mark.parametrize("case", [case for case in PLAIN if "error" not in case], ids=lambda case: case["name"])
async def test_scenario_with_rows_that_are_known_to_be_here(
    pair: Any, case: dict[str, Any], files: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pushes of the business: of the last ones only the news are staged, unless ids had to change."""
    here, there = await _made(pair, case)
    if case["schema"] == "shop":
        await here.execute(BALLAST)
    options = {"conflicts": Conflicts(case.get("conflicts", "bundle"))}
    bundle, earlier, news, edits = await here.bundle(Kind.BUSINESS, "b1"), None, None, 0
    for _ in range(3):
        before, plan, undos = await there.contents(), await there.plan(bundle, **options), Undos(there, tmp_path)
        assert await there.plan(bundle, earlier=earlier, **options) == plan
        result = await there.restore(bundle, earlier=earlier, expected=plan.digest, keeper=undos.keeper, **options)
        assert result.plan == plan
        last = bundle
        if result.known is not None:
            file, base = BaseFile(bundle.manifest.bundle_id, bundle.path).open()
            files.callback(file.close)
            earlier = Earlier(result.known, base)
        await change_some(here)
        bundle, news = await as_pushed(await here.bundle(Kind.BUSINESS, "b1"), last, here.node, monkeypatch)
        earlier = earlier.told(news) if earlier is not None else None
        edits += len(news.frames)
    if case["schema"] == "shop" and case.get("conflicts") != "local":
        assert earlier is not None
        assert edits
    if result.undo is not None:
        after = await there.contents()
        await undos.undo(await undos.bundle())
        assert await there.contents() == before
        await _as_plainly(there, last, after, **options)
