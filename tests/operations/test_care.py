"""Files and history held together, pruning, and verifying, on real files with real seals."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from agent.archive.errors import NoSuchBundleError, NoSuchRecordError
from agent.archive.history import History, new_id
from agent.archive.records import RestoreRecord, TransferRecord
from agent.archive.sql import Sql
from agent.archive.storage import Answer
from agent.config import change
from agent.home import HomeBusyError
from agent.operations import outcomes
from agent.operations.care import GONE, follow_renames, look_over, note, pin, rebuild, untrash
from agent.operations.deliveries import drop, queue_delivery
from agent.operations.outcomes import KEPT_UNDOS, trim_undos
from agent.operations.prune import plan_prune, prune, to_trash
from agent.operations.status import status
from agent.operations.verify import files_to_verify, find_files, verify_files
from agent.operations.workspace import Workspace
from certs.identity import Identity
from protocol.manifest import Kind
from tests.support.archives import NOON, keep, many, workspace_at

in_both = pytest.mark.parametrize("workspace", ["plain archive", "sealed archive"], indirect=True)
END = NOON + timedelta(days=60)


@pytest.fixture
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    made = workspace_at(tmp_path / "home")
    if getattr(request, "param", "") == "sealed archive":
        change(made.home, encrypt_archive=True)
    return Workspace(made.home)


@pytest.fixture
async def history(workspace: Workspace) -> AsyncIterator[History]:
    async with workspace.history() as found:
        yield found


def files(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.home.archive.rglob("*.bundle*") if path.parent.name != "trash"}


def trash(workspace: Workspace) -> set[str]:
    return {path.name.partition(".")[0] for path in (workspace.home.archive / "trash").glob("*")}


@in_both
async def test_check_sees_every_way_in_which_files_and_records_part(workspace: Workspace, history: History) -> None:
    kept, lost, moved, stray = await many(workspace, history, 4)
    archive = workspace.home.archive
    assert (await look_over(workspace, history)).whole
    (archive / lost.path).unlink()
    (archive / moved.path).rename(archive / "full" / "my favourite.bundle")
    await history.remove_backup(stray.id)
    (archive / "full" / "notes.json").write_text("{}")
    (archive / "full" / "copy.bundle").write_bytes((archive / kept.path).read_bytes())
    seen = await look_over(workspace, history)
    assert [each.id for each in seen.present] == [kept.id]
    assert [each.id for each in seen.without_file] == [lost.id]
    assert [(each.record.id, each.file.name) for each in seen.renamed] == [(moved.id, "my favourite.bundle")]
    assert [path.name for path in seen.without_record] == [stray.filename]
    assert sorted(path.name for path, _ in seen.unreadable) == ["copy.bundle", "notes.json"]
    assert seen.as_dict()["whole"] is False


@in_both
async def test_a_lost_history_comes_back_from_the_bundles(workspace: Workspace) -> None:
    async with workspace.history() as history:
        made = await many(workspace, history, 3)
        business = await keep(
            workspace, history, NOON, Kind.BUSINESS, identity=Identity.create("laptop-kitchen-002", NOON)
        )
    workspace.home.history.unlink()
    async with workspace.history() as history:
        done = await rebuild(workspace, history)
        assert {each.id for each in done.added} == {each.id for each in (*made, business)}
        for before in (*made, business):
            after = await history.backup(before.id)
            assert after is not None
            assert after.verified_at is not None
            assert after.recorded_at != before.recorded_at
            same = replace(after, recorded_at=before.recorded_at, verified_at=None, origin="made")
            assert replace(same, raw_size=before.raw_size) == before
        assert (await history.backup(business.id)).origin == "received"  # type: ignore[union-attr]
        assert (await look_over(workspace, history)).whole


@in_both
async def test_a_rebuild_believes_no_damaged_file_and_forgets_no_gone_one(
    workspace: Workspace, history: History
) -> None:
    good, bad, lost = await many(workspace, history, 3)
    await note(history, good.id, "before the move")
    path = workspace.home.archive / bad.path
    await history.remove_backup(bad.id)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    (workspace.home.archive / lost.path).unlink()
    (workspace.home.archive / good.path).rename(workspace.home.archive / "full" / "renamed.bundle")
    done = await rebuild(workspace, history)
    assert not done.added
    assert [path.name for path, _ in done.refused] == [bad.filename]
    assert [each.id for each in done.gone] == [lost.id]
    assert [each.id for each in done.renamed] == [good.id]
    assert [(each.filename, each.notes) for each in await history.backups()] == [("renamed.bundle", "before the move")]
    (gone,) = await history.backups(removed=True)
    assert gone.removed_why == GONE


async def test_notes_and_pins(workspace: Workspace, history: History) -> None:
    (made,) = await many(workspace, history, 1)
    assert (await note(history, made.id[:8], "  before the move ")).notes == "before the move"
    assert (await note(history, made.filename, "")).notes is None
    assert (await pin(history, made.id, pinned=True)).pinned
    assert not (await pin(history, made.id, pinned=False)).pinned
    with pytest.raises(NoSuchRecordError):
        await pin(history, "nothing", pinned=True)


@in_both
async def test_pruning_moves_to_the_trash_and_empties_it_days_later(workspace: Workspace, history: History) -> None:
    made = await many(workspace, history, 60)
    plan = await plan_prune(workspace, history, now=END, zone=UTC)
    assert len(plan.items) == 60
    assert trash(workspace) == set()
    done = await prune(workspace, history, now=END, zone=UTC)
    assert [item.record.id for item in done.plan.removals] == [item.record.id for item in plan.removals]
    assert len(done.removed) == len(plan.removals) > 40
    assert trash(workspace) == {each.id for each in done.removed}
    assert files(workspace) == {each.filename for each in made} - {each.filename for each in done.removed}
    assert all(each.removed_why for each in await history.backups(removed=True))
    with pytest.raises(NoSuchRecordError):
        await note(history, done.removed[0].filename, "in the trash, so no file of that name")
    back = await untrash(workspace, history, done.removed[0].filename)
    assert back.pinned
    assert back.filename in files(workspace)
    again = await prune(workspace, history, now=END, zone=UTC)
    assert not again.removed
    assert not again.deleted
    jumped = END + timedelta(days=365)  # the clock, not the days: nothing leaves the trash for good yet
    for _ in range(2):
        assert not (await prune(workspace, history, now=jumped, zone=UTC)).deleted
    assert not (await prune(workspace, history, now=END + timedelta(days=1), zone=UTC)).deleted
    late = await prune(workspace, history, now=END + timedelta(days=8), zone=UTC)
    assert {each.id for each in late.deleted} == {each.id for each in done.removed[1:]}
    assert trash(workspace) == set()
    assert not (await prune(workspace, history, now=END + timedelta(days=9), zone=UTC)).deleted
    assert len(await history.backups(removed=None)) == 60


@in_both
async def test_what_waits_to_be_delivered_stays(workspace: Workspace, history: History, tmp_path: Path) -> None:
    await many(workspace, history, 40)
    first, *_ = (await plan_prune(workspace, history, now=END, zone=UTC)).removals
    (tmp_path / "nas").mkdir()
    path = workspace.archive.locate(first.record.path)
    job = await queue_delivery(workspace, path, f"path:{tmp_path / 'nas'}", plain=True)
    plan = await plan_prune(workspace, history, now=END, zone=UTC)
    (kept,) = [item for item in plan.items if item.record.id == first.record.id]
    assert kept.keep
    assert kept.reasons == (f"in use: a delivery to {tmp_path / 'nas'}",)
    await drop(workspace, job.id)
    assert first.record.id in {item.record.id for item in (await plan_prune(workspace, history, now=END)).removals}


@in_both
async def test_names_and_file_times_decide_nothing(workspace: Workspace, history: History) -> None:
    made = await many(workspace, history, 40)
    wanted = [item.record.id for item in (await plan_prune(workspace, history, now=END, zone=UTC)).removals]
    shuffled = random.Random(5)
    names = [each.filename for each in made]
    shuffled.shuffle(names)
    folder = workspace.home.archive / "full"
    for each in made:
        (folder / each.filename).rename(folder / f"{each.id}.tmp")
    for each, name in zip(made, names, strict=True):
        (folder / f"{each.id}.tmp").rename(folder / f"x-{name}")
        os.utime(folder / f"x-{name}", (time.time() - shuffled.randrange(10**8),) * 2)
    done = await prune(workspace, history, now=END, zone=UTC)
    assert [each.id for each in done.removed] == wanted
    assert trash(workspace) == set(wanted)


async def test_swapped_files_are_left_where_they_are(workspace: Workspace, history: History) -> None:
    """The record's file is another bundle: its name is right and proves nothing."""
    made = await many(workspace, history, 30)
    plan = await plan_prune(workspace, history, now=END, zone=UTC)
    victim, newest = plan.removals[0].record, made[-1]
    first, second = (workspace.home.archive / each.path for each in (victim, newest))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    done = await prune(workspace, history, now=END, zone=UTC)
    assert [record.id for record, _ in done.left] == [victim.id]
    assert first.exists()


async def test_what_is_not_in_the_archive_decides_and_loses_nothing(
    workspace: Workspace, history: History, tmp_path: Path
) -> None:
    made = await many(workspace, history, 30)
    before = {item.record.id for item in (await plan_prune(workspace, history, now=END, zone=UTC)).removals}
    gone = await keep(workspace, history, END - timedelta(hours=1))
    (workspace.home.archive / gone.path).unlink()
    outside = await keep(workspace, history, made[3].created_at + timedelta(hours=1))
    (workspace.home.archive / outside.path).rename(tmp_path / "usb.bundle")
    await history.add_backup(replace(outside, path=str(tmp_path / "usb.bundle")))
    plan = await plan_prune(workspace, history, now=END, zone=UTC)
    assert {item.record.id for item in plan.removals} == before
    assert any("file is gone" in line for line in plan.notes)
    await prune(workspace, history, now=END, zone=UTC)
    assert (tmp_path / "usb.bundle").exists()


async def test_what_is_in_use_stays(workspace: Workspace, history: History) -> None:
    made = await many(workspace, history, 40)
    pushed, restored, before = made[3].id, made[4].id, made[5].id
    await history.start_transfer(
        TransferRecord(new_id(), "sent", "push", "full", "n", "kitchen", "", END, bundle_id=pushed)
    )
    await history.start_restore(RestoreRecord(new_id(), restored, "f", "full", "newer", "", END))
    old = TransferRecord(
        new_id(), "sent", "push", "full", "n", "kitchen", "", END - timedelta(days=1), bundle_id=before
    )
    await history.end_transfer((await history.start_transfer(old)).id, "interrupted")
    removed = {each.id for each in (await prune(workspace, history, now=END, zone=UTC)).removed}
    assert not removed & {pushed, restored}
    assert before in removed


async def test_a_run_that_died_between_record_and_file_is_finished(workspace: Workspace, history: History) -> None:
    made = await many(workspace, history, 30)
    victim = (await plan_prune(workspace, history, now=END, zone=UTC)).removals[0].record
    await history.add_backup(replace(victim, path=f"trash/{victim.id}.bundle"))
    seen = await follow_renames(workspace, history, await look_over(workspace, history))
    assert len(seen.present) == len(made), "noted but not removed: as if nothing had been"
    await history.add_backup(replace(victim, path=f"trash/{victim.id}.bundle"))
    await history.change_backup(victim.id, removed_at=END, removed_why="x")
    await prune(workspace, history, now=END, zone=UTC)
    assert victim.id in trash(workspace)
    assert victim.filename not in files(workspace)


async def test_one_prune_at_a_time(workspace: Workspace, history: History) -> None:
    with workspace.home.lock("prune"), pytest.raises(HomeBusyError):
        await prune(workspace, history)


async def test_nothing_is_taken_back_while_another_prunes(workspace: Workspace, history: History) -> None:
    (made,) = await many(workspace, history, 1)
    thrown = await to_trash(workspace, history, made)
    with workspace.home.lock("prune"), pytest.raises(HomeBusyError):
        await untrash(workspace, history, made.id)
    assert await history.backup(made.id) == thrown
    assert workspace.archive.locate(thrown.path).is_file()
    assert (await untrash(workspace, history, made.id)).path == made.path


async def test_what_was_noted_as_gone_is_taken_back_where_it_is(workspace: Workspace, history: History) -> None:
    (made,) = await many(workspace, history, 1)
    disk = workspace.archive.locate(made.path).parent
    disk.rename(disk.with_name("unplugged"))
    disk.mkdir()
    assert [each.id for each in (await rebuild(workspace, history)).gone] == [made.id]
    with pytest.raises(NoSuchBundleError):
        await untrash(workspace, history, made.id)
    disk.rmdir()
    disk.with_name("unplugged").rename(disk)
    back = await untrash(workspace, history, made.id)
    assert (back.path, back.removed_at) == (made.path, None)
    assert files(workspace) == {made.filename}


@in_both
async def test_verify_keeps_what_held_and_what_did_not(workspace: Workspace, history: History) -> None:
    good, bad, gone = await many(workspace, history, 3)
    path = workspace.home.archive / bad.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    (workspace.home.archive / gone.path).unlink()
    wanted = await files_to_verify(workspace, history)
    verdicts = {each.file.name: each async for each in verify_files(workspace, history, wanted)}
    assert {name: each.problem_code for name, each in verdicts.items()} == {
        good.filename: "",
        bad.filename: verdicts[bad.filename].problem_code,
        gone.filename: "file-gone",
    }
    assert verdicts[good.filename].known == "this laptop"
    noted = {each.id: each for each in await history.backups()}
    assert noted[good.id].verified_at is not None
    assert noted[bad.id].damage == verdicts[bad.filename].problem
    path.write_bytes(whole)
    async for _ in verify_files(workspace, history, await find_files(workspace, history, (bad.id,))):
        pass
    healed = await history.backup(bad.id)
    assert healed is not None
    assert (healed.damage, healed.damaged_at) == (None, None)
    due = await files_to_verify(workspace, history, due=True)
    assert [record.id for _, record in due if record] == [gone.id]


@in_both
async def test_one_corrupt_byte_in_any_of_200_places_is_found_and_named(workspace: Workspace, history: History) -> None:
    made = await many(workspace, history, 5)
    chance = random.Random(7)
    for _ in range(200):
        victim = chance.choice(made)
        path = workspace.home.archive / victim.path
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        wanted = await files_to_verify(workspace, history)
        bad = [each.file async for each in verify_files(workspace, history, wanted) if not each.ok]
        assert bad == [path], f"byte {place}"
        path.write_bytes(whole)


async def test_a_thousand_bundles_cost_few_queries_and_no_reading(
    workspace: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: ``scripts/bench_archive.py`` measures."""
    (first,) = await many(workspace, history, 1)
    folder = workspace.home.archive / "full"
    for number in range(1, 1000):
        record = replace(
            first,
            id=f"{first.id[:-4]}x{number:03}",
            filename=f"b{number:04}.bundle",
            path=f"full/b{number:04}.bundle",
            created_at=NOON + timedelta(hours=number),
        )
        (folder / record.filename).write_bytes(b"")
        await history.add_backup(record)
    statements: list[Sql] = []
    for line in history._database._lines.values():  # type: ignore[attr-defined]

        def counted(statement: Sql, execute: Callable[[Sql], Answer] = line.execute) -> Answer:
            statements.append(statement)
            return execute(statement)

        monkeypatch.setattr(line, "execute", counted)
    plan = await plan_prune(workspace, history, now=NOON + timedelta(days=50), zone=UTC)
    assert len(plan.items) == 1000
    assert len(statements) < 10
    statements.clear()
    await history.backups(limit=20)
    assert (await status(workspace)).bundles == 1000
    assert len(statements) == 1


async def test_a_clock_that_jumps_takes_no_undo_bundle_for_good(
    workspace: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        await keep(workspace, history, NOON + timedelta(days=day), Kind.UNDO, target_node=workspace.origin().node_id)
        for day in range(KEPT_UNDOS + 2)
    ]
    monkeypatch.setattr(outcomes, "utc_now", lambda: NOON + timedelta(days=20))
    await trim_undos(workspace, history)
    assert trash(workspace) == set()
    later = NOON + timedelta(days=400)
    monkeypatch.setattr(outcomes, "utc_now", lambda: later)
    await trim_undos(workspace, history)
    assert trash(workspace) == {made[0].id, made[1].id}
    (gone, _) = await history.backups(removed=True)
    assert gone.removed_why == f"beyond the newest {KEPT_UNDOS}, and a month old"
    await prune(workspace, history, now=later + timedelta(days=9))
    assert trash(workspace) == {made[0].id, made[1].id}  # one day of pruning is not three
    await untrash(workspace, history, made[0].id)
    assert workspace.archive.locate(made[0].path).is_file()
