"""Taking restores back: exactly, and not over what somebody did since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choices import Choices
from agent.engine.keeping import Keeper
from agent.engine.restore_errors import NotABackup, PlanChanged
from agent.engine.undo import ChangedSince, NotAnUndo, StillNeeded, TableGone, plan_undo, undo
from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.backups import NOW, MemorySink, origin
from tests.support.restores import KITCHEN, OFFICE, Laptop, verify_as
from tests.support.shops import laptop, pair

pytestmark = pytest.mark.every_server

__all__ = ["laptop", "pair"]

SHOP = """
CREATE TABLE sales (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id), number text,
    "updatedAt" timestamp(3), UNIQUE ("businessId", number)
);
CREATE TABLE lines (
    id text PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales (id) ON DELETE CASCADE, quantity integer,
    "previousId" text REFERENCES lines (id) ON DELETE SET NULL
);
CREATE TABLE notes ("businessId" text NOT NULL REFERENCES businesses (id), body text);
"""
HERE = """
INSERT INTO sales VALUES ('o1', 'b1', '1', '2026-02-01'), ('o2', 'b1', '2', '2026-02-01');
INSERT INTO lines VALUES ('i1', 'o1', 1, NULL), ('i2', 'o2', 2, 'i1'), ('i3', 'o2', 3, 'i2');
INSERT INTO notes VALUES ('b1', 'same'), ('b1', 'same'), ('b1', E'tab\\t, newline\\n, backslash \\\\N');
"""
THERE = """
INSERT INTO sales VALUES ('o1', 'b1', 'A1', '2026-01-01'), ('o9', 'b1', '9', '2026-01-01');
INSERT INTO lines VALUES ('i1', 'o1', 7, NULL);
INSERT INTO notes VALUES ('b1', 'same');
"""


class Undos:
    """Where a laptop's undo bundles go in these tests."""

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        self.laptop = laptop
        self.folder = folder
        self.sinks: list[MemorySink] = []

    @property
    def keeper(self) -> Keeper:
        self.sinks.append(MemorySink())
        return Keeper(origin(self.laptop.node), self.sinks[-1], lambda: NOW)

    async def bundle(self) -> VerifiedBundle:
        """The newest, from a file."""
        assert self.sinks[-1].committed
        path = self.folder / f"undo-{len(self.sinks)}.bundle"
        path.write_bytes(bytes(self.sinks[-1].data))
        return await verify_bundle(path, verify_as(self.laptop.node))

    async def undo(self, bundle: VerifiedBundle, **options: Any) -> Any:
        return await undo(
            self.laptop.database.dsn,
            bundle,
            self.laptop.catalogue,
            own_node=self.laptop.node,
            keeper=self.keeper,
            **options,
        )

    async def plan(self, bundle: VerifiedBundle) -> Any:
        return await plan_undo(self.laptop.database.dsn, bundle, self.laptop.catalogue, own_node=self.laptop.node)


async def restored(pair: Any, folder: Path) -> tuple[Laptop, Undos, VerifiedBundle, dict[str, Any]]:
    """A laptop that took another's business over its own: itself, its undos, the undo bundle, and how it was."""
    first, second = await pair(SHOP, HERE, THERE)
    before = await second.contents()
    undos = Undos(second, folder)
    result = await second.restore(
        await first.bundle(Kind.BUSINESS, "b1"), conflicts=Conflicts.BUNDLE, keeper=undos.keeper
    )
    assert result.undo is not None
    assert result.undo.kind is Kind.UNDO
    return second, undos, await undos.bundle(), before


async def test_undo_brings_every_row_back_and_undoing_that_brings_the_restore_back(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, before = await restored(pair, tmp_path)
    after = await second.contents()
    assert after != before
    planned = await undos.plan(bundle)
    done = await undos.undo(bundle, expected=planned.digest)
    assert done.plan == planned
    assert (planned.tables["sales"].delete, planned.tables["sales"].update) == (1, 1)
    assert planned.tables["notes"].delete == 2
    assert await second.contents() == before
    again = await undos.bundle()
    await undos.undo(again)
    assert await second.contents() == after
    await undos.undo(await undos.bundle())
    assert await second.contents() == before


async def test_a_row_changed_since_makes_it_stop_until_somebody_says(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, before = await restored(pair, tmp_path)
    await second.execute("UPDATE sales SET number = 'mine' WHERE id = 'o1'")
    changed = await second.contents()
    with pytest.raises(ChangedSince, match=r"sales: 1 \(\(o1\)\)"):
        await undos.undo(bundle)
    assert await second.contents() == changed
    plan = await undos.plan(bundle)
    assert plan.changed == {"sales": ("(o1)",)}
    await undos.undo(bundle, keep_changed=True)
    assert await second.value("SELECT number FROM sales WHERE id = 'o1'") == "mine"
    assert await second.value("SELECT count(*) FROM sales") == 2
    await undos.undo(await undos.bundle())
    assert await second.contents() == changed
    await undos.undo(bundle, overwrite_changed=True)
    assert await second.contents() == before


async def test_rows_made_since_that_need_a_row_stop_it_whatever_on_delete_says(pair: Any, tmp_path: Path) -> None:
    """lines.saleId cascades: taking order o2 away would take the new item along."""
    second, undos, bundle, _ = await restored(pair, tmp_path)
    await second.execute("INSERT INTO lines VALUES ('new', 'o2', 1, 'i3')")
    now = await second.contents()
    with pytest.raises(StillNeeded, match=r"lines\.saleId: 1 refer to rows of sales"):
        await undos.undo(bundle)
    assert await second.contents() == now


async def test_rows_deleted_since_are_no_hindrance(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, before = await restored(pair, tmp_path)
    await second.execute("DELETE FROM sales WHERE id = 'o2'; DELETE FROM notes")
    await undos.undo(bundle)
    now = await second.contents()
    assert now["sales"] == before["sales"]
    assert now["lines"] == before["lines"]
    assert now["notes"][0] == 0, "nobody's row of before was there to be taken away twice"


async def test_numbers_that_new_rows_took_are_free_again_when_old_rows_turn_back(pair: Any, tmp_path: Path) -> None:
    """The restore gave number A1 of o1 to nobody and 1 to o1; here o9 held 9. Then back, across unique keys."""
    first, second = await pair(
        SHOP,
        "INSERT INTO sales VALUES ('o1', 'b1', '2', '2026-02-01'), ('o2', 'b1', '1', '2026-02-01');",
        "INSERT INTO sales VALUES ('o1', 'b1', '1', '2026-01-01');",
    )
    before = await second.contents()
    undos = Undos(second, tmp_path)
    try:
        await second.restore(await first.bundle(Kind.BUSINESS, "b1"), keeper=undos.keeper)
    finally:
        assert undos.sinks
    await undos.undo(await undos.bundle())
    assert await second.contents() == before


async def test_nothing_changed_leaves_no_undo_bundle(pair: Any, tmp_path: Path) -> None:
    first, second = await pair(SHOP, HERE, HERE)
    undos = Undos(second, tmp_path)
    result = await second.restore(await first.bundle(Kind.BUSINESS, "b1"), keeper=undos.keeper)
    assert result.undo is None
    assert not undos.sinks[-1].opened


async def test_a_sink_that_fails_leaves_the_database_as_it_was(pair: Any, tmp_path: Path) -> None:
    class Full(MemorySink):
        async def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    first, second = await pair(SHOP, HERE, THERE)
    before = await second.contents()
    keeper = Keeper(origin(KITCHEN), Full(), lambda: NOW)
    with pytest.raises(OSError, match="No space left"):
        await second.restore(await first.bundle(Kind.BUSINESS, "b1"), keeper=keeper)
    assert await second.contents() == before


async def test_what_is_no_undo_of_this_laptop_is_refused(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, _ = await restored(pair, tmp_path)
    with pytest.raises(NotABackup):
        await second.restore(bundle)
    with pytest.raises(NotAnUndo):
        await undos.undo(await second.bundle(Kind.BUSINESS, "b1"))
    with pytest.raises(ForeignDeviceState, match="undo bundle was made by a different device"):
        await undo(second.database.dsn, bundle, second.catalogue, own_node=OFFICE, keeper=undos.keeper)


async def test_a_schema_that_moved_on_is_refused_by_name(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, _ = await restored(pair, tmp_path)
    await second.execute("ALTER TABLE lines ADD COLUMN colour text")
    with pytest.raises(TableGone, match="lines"):
        await undos.undo(bundle)


async def test_a_plan_that_no_longer_holds_is_not_applied(pair: Any, tmp_path: Path) -> None:
    second, undos, bundle, _ = await restored(pair, tmp_path)
    planned = await undos.plan(bundle)
    await second.execute("DELETE FROM lines WHERE id = 'i3'")
    with pytest.raises(PlanChanged):
        await undos.undo(bundle, expected=planned.digest)


QUEUE = """
CREATE TABLE offline_queue (
    id text PRIMARY KEY, "tableName" text NOT NULL, "recordId" text NOT NULL,
    "isProcessed" boolean NOT NULL DEFAULT false
);
"""
WAITING = """
INSERT INTO offline_queue VALUES ('q1', 'sales', 'o1', false), ('q2', 'sales', 'o1', true),
    ('q3', 'sales', 'o9', false), ('q4', 'lines', 'o1', false), ('q5', 'lines', 'i1', false);
"""


async def test_what_waits_to_tell_of_replaced_rows_goes_and_comes_back(pair: Any, tmp_path: Path) -> None:
    """Entries of rows that stay, of other tables with the same id, and those worked off are left alone."""
    first, second = await pair(SHOP + QUEUE, HERE, THERE + WAITING)
    before = await second.contents()
    undos = Undos(second, tmp_path)
    bundle = await first.bundle(Kind.BUSINESS, "b1")
    plan = await second.plan(bundle)
    assert [(item.table, item.rows) for item in plan.dequeued] == [("offline_queue", 2)]
    await second.restore(bundle, keeper=undos.keeper, expected=plan.digest)
    left = await second.fetch("SELECT id FROM offline_queue ORDER BY 1")
    assert [row["id"] for row in left] == ["q2", "q3", "q4"]
    await undos.undo(await undos.bundle())
    assert await second.contents() == before


async def test_a_mirror_takes_what_waits_to_tell_of_its_victims_along(pair: Any, tmp_path: Path) -> None:
    """o9 is here alone and goes; the note about o1, which is replaced, goes too."""
    first, second = await pair(SHOP + QUEUE, HERE, THERE + WAITING)
    before = await second.contents()
    undos = Undos(second, tmp_path)
    bundle = await first.bundle(Kind.BUSINESS, "b1")
    plan = await second.plan(bundle, choices=Choices(mirror=True))
    assert [(item.table, item.rows) for item in plan.dequeued] == [("offline_queue", 3)]
    await second.restore(bundle, choices=Choices(mirror=True), keeper=undos.keeper, expected=plan.digest)
    assert [row["id"] for row in await second.fetch("SELECT id FROM offline_queue ORDER BY 1")] == ["q2", "q4"]
    await undos.undo(await undos.bundle())
    assert await second.contents() == before


async def test_what_waits_under_an_id_that_changes_goes(pair: Any, tmp_path: Path) -> None:
    kinds = """
    CREATE TABLE job_titles (id text PRIMARY KEY, title text NOT NULL UNIQUE);
    CREATE TABLE staff (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id),
        "jobTitleId" text NOT NULL REFERENCES job_titles (id) ON UPDATE CASCADE);
    """
    first, second = await pair(
        kinds + QUEUE,
        "INSERT INTO job_titles VALUES ('far', 'Cook'); INSERT INTO staff VALUES ('s1', 'b1', 'far');",
        "INSERT INTO job_titles VALUES ('near', 'Cook'); "
        "INSERT INTO offline_queue VALUES ('q1', 'jobTitles', 'near', false), ('q2', 'job_titles', 'other', false);",
    )
    before = await second.contents()
    undos = Undos(second, tmp_path)
    result = await second.restore(await first.bundle(Kind.BUSINESS, "b1"), keeper=undos.keeper)
    assert result.plan.totals.reidentified == 1
    assert [row["id"] for row in await second.fetch("SELECT id FROM offline_queue")] == ["q2"]
    await undos.undo(await undos.bundle())
    assert await second.contents() == before


async def test_every_row_of_every_table_of_the_platform(database: MakeDatabase, tmp_path: Path) -> None:
    """Devices' placeholders included, on the laptop that the whole shop's rows came to."""
    source = Laptop(await database("everything"), tmp_path, OFFICE)
    target = Laptop(await database("platform"), tmp_path, KITCHEN)
    before = await target.contents()
    undos = Undos(target, tmp_path)
    await target.restore(await source.bundle(Kind.FULL, include_demo=True), keeper=undos.keeper)
    await undos.undo(await undos.bundle())
    assert await target.contents() == before


TIPS = 'CREATE TABLE tips (id text PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales (id) ON DELETE CASCADE);'


@pytest.mark.parametrize("what", ["undo", "mirror"])
async def test_no_row_that_comes_meanwhile_goes_with_the_one_that_it_refers_to(
    pair: Any, tmp_path: Path, what: str
) -> None:
    """ON DELETE CASCADE would take it, and no undo bundle has it: until the end nobody gets so far as to write it."""
    first, second = await pair(SHOP + TIPS, HERE, THERE)
    undos = Undos(second, tmp_path)
    bundle = await first.bundle(Kind.BUSINESS, "b1")
    if what == "undo":
        await second.restore(bundle, keeper=undos.keeper)
        bundle = await undos.bundle()
    going = "o2" if what == "undo" else "o9"

    async def platform_writes(_: str) -> None:
        async with second.database.connect() as connection:
            await connection.execute("SET lock_timeout = '200ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.execute("INSERT INTO tips VALUES ('t1', $1)", going)

    if what == "undo":
        await undos.undo(bundle, started=platform_writes)
    else:
        await second.restore(bundle, choices=Choices(mirror=True), keeper=undos.keeper, started=platform_writes)
    assert await second.value("SELECT count(*) FROM sales WHERE id = $1", going) == 0
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await second.execute("INSERT INTO tips VALUES ('t1', $1)", going)
