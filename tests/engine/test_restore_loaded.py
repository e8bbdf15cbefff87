"""What a load leaves behind: rows that need no vacuum, whole for whoever looks, an undo bundle, and what is known."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.database.transaction import RowsRefused
from agent.engine.progress import Step
from protocol.errors import CutShort
from protocol.manifest import Kind
from tests.engine.test_restore_known import Pushes, Staged, files, staged
from tests.engine.test_restore_loading import NO_BUSINESSES, ROWS, SHOP, Seen, both_ways, load_from, shape
from tests.engine.test_undo import Undos
from tests.support.restores import KITCHEN
from tests.support.shops import laptop, pair

__all__ = ["files", "laptop", "pair", "staged"]


@pytest.mark.parametrize("fails", ["a foreign key", "what is kept"])
async def test_foreign_keys_are_made_while_the_undo_bundle_is_written(
    laptop: Any, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever fails takes the other with it: nothing is there, and no undo bundle of what never was."""
    source = await laptop(SHOP.replace("REFERENCES sales ON DELETE CASCADE", "") + ROWS)
    if fails == "a foreign key":
        await source.execute("UPDATE lines SET \"saleId\" = 'gone' WHERE id = 7")
    target = await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    monkeypatch.setattr("agent.tables.schema.Schema.fingerprint", lambda self: "0" * 64)
    bundle = await source.bundle(Kind.FULL)
    before, declared = await target.contents(), await shape(target)
    load_from(monkeypatch, 1)
    undos, seen = Undos(target, tmp_path), Seen()

    def progress(step: Step) -> None:
        seen(step)
        if fails == "what is kept" and step.stage == "keeping the rows as they were":
            bundle.path.write_bytes(bundle.path.read_bytes()[:-1])

    with pytest.raises(RowsRefused if fails == "a foreign key" else CutShort):
        await target.restore(bundle, keeper=undos.keeper, progress=progress)
    assert seen.loaded
    assert undos.sinks[-1].opened
    assert not undos.sinks[-1].committed or fails == "a foreign key"
    assert await target.contents() == before
    assert await shape(target) == declared


NOTES = """
CREATE TABLE notes (id text PRIMARY KEY, "saleId" text REFERENCES sales);
COMMENT ON CONSTRAINT "notes_saleId_fkey" ON notes IS 'why';
"""


@pytest.mark.parametrize(
    ("odd", "anew"),
    [("", {"sales", "lines"}), ("REVOKE TRUNCATE ON lines FROM CURRENT_USER", {"sales"}), (NOTES, {"lines"})],
    ids=["as usual", "no right to", "a foreign key that stays"],
)
async def test_rows_are_old_ones_where_their_table_can_be_truncated(
    laptop: Any, odd: str, anew: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No vacuum has to look at them afterwards, and hold the table, which the next restore would wait for."""
    source = await laptop(SHOP + ROWS + (NOTES if odd == NOTES else ""))
    staged, loaded = [await laptop(SHOP + odd, node=KITCHEN, businesses=NO_BUSINESSES) for _ in range(2)]
    state = (
        "SELECT relname, relfilenode, relallvisible = relpages AND relpages > 0 AS old FROM pg_class WHERE relname IN"
    )
    state += " ('sales', 'lines') ORDER BY 1"
    before = await loaded.fetch(state)
    seen = await both_ways(monkeypatch, source, staged, loaded, tmp_path, undone=False)
    assert seen.loaded
    after = await loaded.fetch(state)
    assert {one["relname"] for one, two in zip(before, after, strict=True) if one[1] != two[1]} == anew
    assert {each["relname"] for each in after if each["old"]} == anew


async def test_whoever_began_before_a_load_sees_its_rows_whole_or_not_at_all(
    laptop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = await laptop(SHOP + ROWS), await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    bundle, seen = await source.bundle(Kind.FULL), Seen()
    load_from(monkeypatch, 1)
    counts = (
        "SELECT (SELECT count(*) FROM sales), (SELECT count(*) FROM lines), (SELECT count(*) FROM lines WHERE id > 0)"
    )
    async with target.database.connect() as plain, target.database.connect() as strict:
        await plain.execute("BEGIN; SELECT")
        await strict.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        await target.restore(bundle, progress=seen)
        assert seen.loaded
        # It has looked into none of these tables, or the load would have waited: it sees each in one state.
        assert tuple(await plain.fetchrow(counts)) == tuple(await strict.fetchrow(counts)) == (40, 90, 90)
        await strict.execute("UPDATE lines SET body = 'mine' WHERE id = 1; COMMIT")
    assert await target.value("SELECT count(*) FROM lines WHERE body = 'mine'") == 1
    assert tuple((await target.fetch(counts))[0]) == (40, 90, 90)


async def test_what_was_loaded_is_known_at_the_next_push(
    pair: Any, files: ExitStack, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are written as old ones still say who wrote them."""
    here, there = await pair(SHOP, ROWS)
    load_from(monkeypatch, 1)
    pushes, seen = Pushes(here, there, files), Seen()
    await pushes.push(progress=seen)
    assert seen.loaded
    await there.execute("VACUUM FREEZE")
    for changed in (0, 1):
        await here.execute(f"UPDATE lines SET body = 'changed' WHERE id <= {changed}")
        staged.take()
        result = await pushes.push()
        assert result.plan.totals.changes == changed
        # Planned once without help, and with it twice; then restored.
        assert staged.take() == result.plan.totals.rows + 3 * changed
