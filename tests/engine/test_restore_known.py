"""Rows that are known to be here are not staged again: the same plan and the same rows, whatever happened meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from agent.database import staging
from agent.database import untouched as untouched_module
from agent.engine import restore as restore_module
from agent.engine import restore_staging, sifting
from agent.engine.bundle_file import VerifiedBundle
from agent.engine.known import Earlier, Known
from agent.engine.plan import RestoreResult
from agent.peers.delta import BaseFile, pieces
from protocol.delta import DeltaReader, News
from protocol.errors import BadDelta
from protocol.manifest import Kind
from tests.engine.test_restore_converge import LOCKED, SCHEMA, Clerk
from tests.support.restores import Conflicts, Laptop
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]

SHOP = """
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, number text UNIQUE,
    total integer, "updatedAt" timestamp(3));
CREATE TABLE lines (id text PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales ON DELETE CASCADE, body text);
CREATE TABLE notes (body text);
"""
ROWS = """
INSERT INTO sales SELECT 's' || n, 'b1', n::text, n, '2026-01-01' FROM generate_series(1, 600) n;
INSERT INTO lines SELECT 'l' || n, 's' || 1 + n % 600, repeat('x', n % 90) FROM generate_series(1, 1500) n;
"""


class Staged:
    """How many rows went into temporary tables since it was asked last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        copy_rows = staging.copy_rows

        async def counting(*arguments: Any) -> int:
            rows = await copy_rows(*arguments)
            self.rows += rows
            return rows

        monkeypatch.setattr(restore_staging, "copy_rows", counting)

    def take(self) -> int:
        rows, self.rows = self.rows, 0
        return rows


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Staged:
    return Staged(monkeypatch)


@pytest.fixture
def files() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Pushes:
    """Restores bundles of one laptop on another, each with what the one before made known."""

    def __init__(self, here: Laptop, there: Laptop, files: ExitStack) -> None:
        self.here, self.there, self.files = here, there, files
        self.earlier: Earlier | None = None

    async def push(self, **options: Any) -> RestoreResult:
        bundle = await self.here.bundle(Kind.BUSINESS, "b1")
        plainly = await self.there.plan(bundle, **options)
        assert await self.there.plan(bundle, earlier=self.earlier, **options) == plainly
        told = self.told(bundle)
        assert await self.there.plan(bundle, earlier=told, **options) == plainly
        result = await self.there.restore(bundle, expected=plainly.digest, earlier=told, **options)
        assert result.plan == plainly
        if result.known is not None:
            self.earlier = self.known(result.known, bundle)
        return result

    def told(self, bundle: VerifiedBundle) -> Earlier | None:
        """What was known, with the news that the bundle's delta brings, if one can be made."""
        if self.earlier is None:
            return None
        base, news = self.earlier.base, News(self.earlier.base.content)
        reader = DeltaReader(base, news)
        with bundle.path.open("rb") as file, suppress(BadDelta):
            came = b"".join(made for piece, _ in pieces(file, base, 0) for made in reader.feed(piece))
            assert came == bundle.path.read_bytes()
        return self.earlier.told(news)

    def known(self, known: Known, bundle: VerifiedBundle) -> Earlier:
        file, base = BaseFile(bundle.manifest.bundle_id, bundle.path).open()
        self.files.callback(file.close)
        return Earlier(Known.of(known.as_dict()), base)


@pytest.fixture
async def pushed(pair: Any, files: ExitStack) -> Pushes:
    """Two laptops, and one push between them that brought 2,100 rows."""
    here, there = await pair(SHOP, ROWS)
    pushes = Pushes(here, there, files)
    result = await pushes.push()
    assert result.plan.totals.insert == 2100
    assert pushes.earlier is not None
    assert set(pushes.earlier.known.tables) == {"sales", "lines", "businesses"}
    return pushes


async def _staged_by(pushes: Pushes, staged: Staged, **options: Any) -> tuple[int, RestoreResult]:
    """How many rows the next push stages, when it is planned without help once, and with help three times."""
    staged.take()
    result = await pushes.push(**options)
    rows = staged.take() - result.plan.totals.rows
    assert rows % 3 == 0
    return rows // 3, result


async def test_only_what_changed_is_staged(pushed: Pushes, staged: Staged) -> None:
    assert (await _staged_by(pushed, staged))[0] == 0
    await pushed.here.execute("UPDATE sales SET total = -1 WHERE id IN ('s5', 's500')")
    await pushed.here.execute("DELETE FROM lines WHERE id = 'l7'")
    await pushed.here.execute("INSERT INTO lines VALUES ('new', 's1', NULL)")
    rows, result = await _staged_by(pushed, staged)
    assert rows == 3
    assert (result.plan.totals.update, result.plan.totals.insert, result.plan.totals.unchanged) == (2, 1, 2098)
    rows, result = await _staged_by(pushed, staged)
    assert (rows, result.plan.totals.changes) == (0, 0)


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("UPDATE sales SET total = 0 WHERE id = 's9'", 1),
        ("DELETE FROM lines WHERE id = 'l9'", 1),
        ("INSERT INTO lines VALUES ('own', 's1', 'y')", 0),
        ("INSERT INTO lines VALUES ('own', 's1', 'y'); DELETE FROM lines WHERE id = 'l9'", 1),
        ("DELETE FROM sales WHERE id = 's9'", 4),
        ("TRUNCATE lines", 1500),
        ("UPDATE lines SET body = body", 0),
        ("CREATE TABLE other AS TABLE lines; TRUNCATE lines; INSERT INTO lines TABLE other; DROP TABLE other", 0),
    ],
)
async def test_what_was_touched_here_is_looked_at(pushed: Pushes, staged: Staged, statement: str, changes: int) -> None:
    await pushed.there.execute(statement)
    rows, result = await _staged_by(pushed, staged)
    assert result.plan.totals.changes == changes
    assert rows in (600, 601, 1500, 1501, 2100, 2101)
    assert (await pushed.push()).plan.totals.changes == 0


async def test_whoever_was_at_work_meanwhile_is_seen(pair: Any, files: ExitStack) -> None:
    """A transaction that is older than the restore writes after it, under an id that the server gave out before it."""
    here, there = await pair(SHOP, ROWS)
    pushes = Pushes(here, there, files)
    async with there.database.connect() as other:
        await other.execute("BEGIN; INSERT INTO notes VALUES ('a'); SAVEPOINT s; INSERT INTO notes VALUES ('b')")
        await pushes.push()
        assert pushes.earlier is not None
        await other.execute("UPDATE sales SET total = 77 WHERE id = 's3'; COMMIT")
    assert (await pushes.push()).plan.tables["sales"].update == 1
    assert await there.value("SELECT total FROM sales WHERE id = 's3'") == 3


TRIGGER = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.total = 0; RETURN NEW; END$$;
CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION spoil();
"""


async def test_rows_that_a_trigger_may_have_changed_are_looked_at(pushed: Pushes, staged: Staged) -> None:
    await pushed.there.execute(TRIGGER)
    await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id = 's1'")
    before = pushed.earlier
    assert (await pushed.push()).plan.totals.update == 1
    assert pushed.earlier is before
    assert (await pushed.push()).plan.totals.update == 1


@pytest.mark.parametrize("statement", ["DELETE FROM lines WHERE id = 'l9'", "UPDATE lines SET body = 'mine'"])
async def test_what_is_touched_while_a_restore_runs_is_not_known(
    pushed: Pushes, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Tables of which nothing is staged are not held: somebody writes to one between the plan and the writing."""
    dequeue = restore_module.dequeue

    async def working(work: Any, *others: Any) -> Any:
        if [merge.stage.table.name for merge in work.merges] == ["sales"]:
            monkeypatch.setattr(restore_module, "dequeue", dequeue)
            await pushed.there.execute(statement)
        return await dequeue(work, *others)

    await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id = 's1'")
    bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
    monkeypatch.setattr(restore_module, "dequeue", working)
    result = await pushed.there.restore(bundle, earlier=pushed.earlier)
    assert result.plan.totals.update == 1
    assert result.known is not None
    assert "lines" not in result.known.tables
    pushed.earlier = pushed.known(result.known, bundle)
    assert (await pushed.push()).plan.tables["lines"].changes in (1, 1500)


@pytest.mark.parametrize("statement", ["DELETE FROM sales WHERE id = 's9'", "UPDATE sales SET total = total"])
async def test_what_is_touched_before_tables_are_held_is_looked_at(
    pushed: Pushes, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Somebody writes to a table after it was found untouched, and before nobody may write to it any more."""
    hold_tables = restore_module.hold_tables

    async def late(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(restore_module, "hold_tables", hold_tables)
        await pushed.there.execute(statement)
        await hold_tables(*arguments, **options)

    await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id = 's1'")
    bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
    monkeypatch.setattr(restore_module, "hold_tables", late)
    result = await pushed.there.restore(bundle, earlier=pushed.earlier)
    lost = 1 if "DELETE" in statement else 0
    assert (result.plan.tables["sales"].update, result.plan.tables["sales"].insert) == (1, lost)
    assert await pushed.there.value("SELECT count(*) FROM sales") == 600


async def test_who_commits_just_before_the_mark_is_seen(
    undisturbed: None, pushed: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older transaction writes to a table of which nothing is staged, and ends after all was found quiet."""
    mark_tables = sifting.mark_tables
    async with pushed.there.database.connect() as other:
        await other.execute("BEGIN; UPDATE lines SET body = 'mine' WHERE id = 'l3'")

        async def late(*arguments: Any) -> Any:
            await other.execute("COMMIT")
            return await mark_tables(*arguments)

        await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id = 's1'")
        bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
        monkeypatch.setattr(sifting, "mark_tables", late)
        result = await pushed.there.restore(bundle, earlier=pushed.earlier)
    monkeypatch.setattr(sifting, "mark_tables", mark_tables)
    assert result.plan.totals.update == 1
    assert result.known is not None
    assert set(result.known.tables) == {"sales", "businesses"}
    pushed.earlier = pushed.known(result.known, bundle)
    assert (await pushed.push()).plan.tables["lines"].update == 1


async def test_whole_tables_are_looked_at_once(
    undisturbed: None, pushed: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody else is at work, what is known afterwards follows from what was known before, and is so."""
    looks: list[list[str]] = []
    look = untouched_module._look

    async def looking(connection: Any, tables: Any, own: int, oldest: int) -> Any:
        tables = list(tables)
        looks.append(sorted(table.name for table in tables))
        return await look(connection, tables, own, oldest)

    await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id IN ('s1', 's2')")
    await pushed.here.execute("INSERT INTO lines VALUES ('new', 's1', NULL)")
    await pushed.here.execute("UPDATE lines SET body = 'z' WHERE id = 'l4'")
    bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
    monkeypatch.setattr(untouched_module, "_look", looking)
    result = await pushed.there.restore(bundle, earlier=pushed.earlier)
    assert [each for each in looks if each] == [["businesses", "lines", "sales"]]
    assert result.known is not None
    found = result.known.mark
    for table, rows, own in (("sales", 600, 2), ("lines", 1501, 2), ("businesses", 2, 0)):
        counted = f"SELECT count(*), count(*) FILTER (WHERE xmin = '{found.own % (1 << 32)}'::xid) FROM {table}"
        assert tuple((await pushed.there.fetch(counted))[0]) == found.tables[table][1:] == (rows, own)


async def test_rows_are_known_after_a_restore_that_had_to_wait_for_tables(pushed: Pushes, staged: Staged) -> None:
    """What is written after a lock was waited for has the transaction's own id, not that of a part of it."""
    await pushed.here.execute("UPDATE sales SET total = 5, \"updatedAt\" = '2026-02-02' WHERE id = 's1'")
    bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
    async with pushed.there.database.connect() as other:
        await other.execute("BEGIN; LOCK TABLE sales IN ROW EXCLUSIVE MODE")
        restoring = asyncio.create_task(pushed.there.restore(bundle, earlier=pushed.earlier))
        while not await other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(0.01)
        await other.execute("COMMIT")
        result = await restoring
    assert result.plan.totals.update == 1
    assert result.known is not None
    pushed.earlier = pushed.known(result.known, bundle)
    assert (await _staged_by(pushed, staged))[0] == 0


async def test_another_run_of_the_server_knows_nothing(pushed: Pushes, staged: Staged) -> None:
    assert pushed.earlier is not None
    mark = replace(pushed.earlier.known.mark, server="1760000000.000000 5")
    pushed.earlier = replace(pushed.earlier, known=replace(pushed.earlier.known, mark=mark))
    assert (await _staged_by(pushed, staged))[0] > 2100


async def test_without_a_row_of_the_marking_transaction_nothing_is_believed(pushed: Pushes, staged: Staged) -> None:
    assert pushed.earlier is not None
    kept = pushed.earlier.known.mark
    mark = replace(kept, tables={name: (oid, rows, 0) for name, (oid, rows, _) in kept.tables.items()})
    pushed.earlier = replace(pushed.earlier, known=replace(pushed.earlier.known, mark=mark))
    assert (await _staged_by(pushed, staged))[0] > 2100


async def test_rows_that_are_compared_in_another_way_are_looked_at(pushed: Pushes, staged: Staged) -> None:
    assert pushed.earlier is not None
    known = pushed.earlier.known
    tables = {**known.tables, "sales": (("id",), ("businessId", "number"))}
    pushed.earlier = replace(pushed.earlier, known=replace(known, tables=tables))
    await pushed.here.execute("UPDATE lines SET body = 'z' WHERE id = 'l1'")
    assert (await _staged_by(pushed, staged))[1].plan.totals.update == 1


async def test_another_schema_is_looked_at(pushed: Pushes, staged: Staged) -> None:
    for each in (pushed.here, pushed.there):
        await each.execute("ALTER TABLE sales ADD COLUMN paid boolean NOT NULL DEFAULT false")
    await pushed.here.execute("UPDATE sales SET paid = true WHERE id = 's1'")
    rows, result = await _staged_by(pushed, staged)
    assert (rows > 2100, result.plan.totals.update) == (True, 1)


async def test_news_of_another_bundle_are_not_believed(pushed: Pushes) -> None:
    assert pushed.earlier is not None
    assert pushed.earlier.told(News("other")).news is None


async def test_news_are_believed_of_frames_of_the_same_table_alone(pushed: Pushes, staged: Staged) -> None:
    """A delta may tell a table's frame by rows of another table: these are not here as rows of the first."""
    assert pushed.earlier is not None
    await pushed.here.execute("UPDATE sales SET total = -1, \"updatedAt\" = '2026-02-02' WHERE id = 's5'")
    bundle = await pushed.here.bundle(Kind.BUSINESS, "b1")
    base, news = pushed.earlier.base, News(pushed.earlier.base.content)
    entry = next(number for number, each in enumerate(bundle.manifest.tables) if each.table == "sales")
    elsewhere = next(number for number in range(base.frames) if base.frame(number).entry != entry)
    frames = [frame async for frame in bundle.frames() if frame.entry == entry]
    for frame in frames:
        news.add(frame.digest, elsewhere, 1, b"")
    result = await pushed.there.restore(bundle, earlier=pushed.earlier.told(news))
    assert result.plan.totals.update == 1
    assert await pushed.there.value("SELECT total FROM sales WHERE id = 's5'") == -1


async def test_an_earlier_bundle_that_changed_on_the_disk_is_not_believed(pushed: Pushes, staged: Staged) -> None:
    assert pushed.earlier is not None
    path = pushed.here.folder / "node-office-1.bundle"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    # Damaged after it was opened: noticed where it is read again, and the restore goes the long way.
    path.write_bytes(data)
    await pushed.here.execute("UPDATE sales SET total = -1")
    await pushed.here.execute("UPDATE lines SET body = 'z' WHERE id <> 'l1'")
    assert (await pushed.push()).plan.totals.update == 2099


@pytest.mark.parametrize("seed", range(4))
async def test_plans_are_the_same_whatever_people_do(pair: Any, files: ExitStack, staged: Staged, seed: int) -> None:
    rng = random.Random(seed)
    here, there = await pair(SCHEMA + LOCKED)
    office, kitchen = Clerk(here, "o", rng), Clerk(there, "k", rng)
    pushes = Pushes(here, there, files)
    await office.work(60)
    saved = 0
    for _ in range(6):
        conflicts = rng.choice([Conflicts.NEWER, Conflicts.BUNDLE, Conflicts.LOCAL])
        staged.take()
        result = await pushes.push(conflicts=conflicts)
        saved += 4 * result.plan.totals.rows - staged.take()
        await rng.choice([office, office, kitchen]).work(rng.randrange(0, 5))
    assert saved > 0
