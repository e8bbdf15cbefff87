"""The history on real SQLite files: what goes in comes out, and what it says of unfinished work is true."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import pytest

from agent.archive.errors import AmbiguousBundleError, HistoryError, NoSuchRecordError
from agent.archive.history import NOTED, History, new_id
from agent.archive.records import BackupRecord, RestoreRecord, TransferRecord
from agent.home import Home
from tests.archive.conftest import Child
from tests.conftest import MakeDatabase

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def backup(bundle_id: str, **changes: object) -> BackupRecord:
    record = BackupRecord(
        id=bundle_id,
        filename=f"backup-{bundle_id}.bundle",
        path=f"full/backup-{bundle_id}.bundle",
        kind="full",
        created_at=NOON,
        created_by="finance",
        source_node="node-a",
        source_device="laptop-a",
        size=5_000_000_000,
        raw_size=50_000_000_000,
        records=2_000_000,
        tables=126,
        checksum="0" * 64,
        schema_fingerprint="f" * 64,
        options={"compress": True, "include_demo": False},
        recorded_at=NOON,
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def transfer(**changes: object) -> TransferRecord:
    record = TransferRecord(new_id(), "sent", "push", "business-specific", "node-b", "laptop-b", "started", NOON)
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def restore(**changes: object) -> RestoreRecord:
    record = RestoreRecord(new_id(), "bundle-1", "x.bundle", "full", "newer", "running", NOON)
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


async def test_a_backup_comes_back_as_it_went_in(home: Home) -> None:
    record = backup(
        "b1",
        business_id="biz",
        business_name="Restaurant ABC ✓",
        origin="received",
        notes="before the move",
        pinned=True,
        verified_at=NOON,
        downloaded_at=NOON,
        emailed_to="a, b",
        emailed_at=NOON,
        network_path="\\\\nas\\x",
        network_copied_at=NOON,
        cloud_location="s3://b/x",
        cloud_copied_at=NOON,
    )
    async with History.open(home) as history:
        assert await history.add_backup(record) == record
    async with History.open(home) as history:
        assert await history.backup("b1") == record
        assert await history.backups() == (record,)
        assert await history.backup("b2") is None


async def test_times_are_kept_in_utc_whatever_zone_they_come_in(home: Home) -> None:
    local = datetime(2026, 1, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    async with History.open(home) as history:
        await history.add_backup(backup("b1", created_at=local))
        found = await history.backup("b1")
        assert found is not None
        assert (found.created_at, found.created_at.utcoffset()) == (local, timedelta(0))
        with pytest.raises(HistoryError, match="time zone"):
            await history.add_backup(backup("b2", created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


async def test_recording_again_keeps_notes_and_pins(home: Home) -> None:
    async with History.open(home) as history:
        await history.add_backup(backup("b1"))
        await history.change_backup("b1", notes="mine", pinned=True, verified_at=NOON)
        await history.add_backup(backup("b1", path="elsewhere", origin="pulled"))
        found = await history.backup("b1")
        assert found is not None
        assert (found.path, found.origin, found.notes, found.pinned) == ("elsewhere", "pulled", "mine", True)
        with pytest.raises(HistoryError, match="checksum"):
            await history.change_backup("b1", checksum="x")
        with pytest.raises(NoSuchRecordError, match="b9"):
            await history.change_backup("b9", pinned=True)
        await history.remove_backup("b1")
        assert await history.backups() == ()
    assert {"notes", "pinned", "emailed_to", "cloud_copied_at"} <= NOTED
    assert "recorded_at" not in NOTED


async def test_browsing_backups(home: Home) -> None:
    async with History.open(home) as history:
        for number in range(6):
            await history.add_backup(
                backup(
                    f"bundle-{number}",
                    created_at=NOON + timedelta(days=number),
                    kind="full" if number % 2 else "business-specific",
                    business_id=None if number % 2 else "biz",
                    business_name=None if number % 2 else "Restaurant",
                    source_device=f"laptop-{number}",
                    pinned=number == 3,
                )
            )

        async def ids(**filters: object) -> str:
            return "".join(found.id[-1] for found in await history.backups(**filters))  # type: ignore[arg-type]

        assert await ids() == "543210"
        assert await ids(kind="full") == "531"
        assert await ids(business="biz") == await ids(business="Restaurant") == "420"
        assert await ids(device="laptop-2") == "2"
        assert await ids(device="node-a", limit=2) == "54"
        assert await ids(limit=2, offset=3) == "21"
        assert await ids(since=NOON + timedelta(days=1), until=NOON + timedelta(days=4)) == "321"
        assert await ids(pinned=True) == "3"
        assert await ids(origin="pulled") == ""
        assert (await history.find_backup("backup-bundle-2.bundle")) == await history.backup("bundle-2")
        assert await history.find_backup("bun") is None
        with pytest.raises(AmbiguousBundleError):
            await history.find_backup("bundle")
        assert await history.find_backup("bundl%") is None


async def test_a_transfer_from_start_to_receipt(home: Home) -> None:
    async with History.open(home) as history:
        begun = await history.start_transfer(transfer(bundle_id="b1", business_id="biz", business_name="Restaurant"))
        assert begun.owner == home.process
        await history.progress_transfer(begun.id, 10, 100)
        assert (await history.transfers(state="started"))[0].bytes_done == 10
        stopped = await history.end_transfer(begun.id, "interrupted", error_code="peer-gone", error="It went away.")
        assert (stopped.bytes_done, stopped.error, stopped.owner) == (10, "It went away.", None)
        again = await history.resume_transfer(begun.id)
        assert (again.state, again.error, again.ended_at) == ("started", None, None)
        totals = {"inserted": 3, "updated": 0}
        done = await history.end_transfer(begun.id, "done", bytes_done=100, receipt=b"\x00signed", totals=totals)
        assert (done.receipt, done.totals, done.bytes_total, done.bundle_id) == (b"\x00signed", totals, 100, "b1")
        assert done.ended_at is not None
        await history.start_transfer(transfer(direction="received", mode="pull", started_at=NOON + timedelta(hours=1)))
        assert [found.mode for found in await history.transfers()] == ["pull", "push"]
        assert await history.transfers(direction="sent", peer="laptop-b", business="biz", bundle_id="b1") == (done,)
        assert len(await history.transfers(mode="pull", since=NOON, until=NOON + timedelta(hours=2), limit=5)) == 1
        with pytest.raises(NoSuchRecordError):
            await history.end_transfer("nothing", "done")


async def test_a_restore_from_start_to_end(home: Home) -> None:
    async with History.open(home) as history:
        begun = await history.start_restore(restore(business_id="biz", source_node="node-b"))
        assert (begun.state, await history.restores(state="running")) == ("running", (begun,))
        ended = await history.end_restore(
            begun.id, "applied", counts={"inserted": 5}, approver="finance", plan_digest="d", undo_path="full/u.bundle"
        )
        assert ended == (await history.restores(kind="full", business="biz", bundle_id="bundle-1", limit=1))[0]
        assert (ended.counts, ended.approver, ended.undo_path, ended.owner) == (
            {"inserted": 5},
            "finance",
            "full/u.bundle",
            None,
        )
        refused = await history.end_restore(
            (await history.start_restore(restore())).id, "refused", error_code="foreign-device", error="No."
        )
        assert (refused.error_code, refused.counts) == ("foreign-device", {})


async def test_read_only_mappings_are_fine(home: Home) -> None:
    async with History.open(home) as history:
        await history.add_backup(backup("b1", options=MappingProxyType({"compress": True})))
        begun = await history.start_transfer(transfer())
        done = await history.end_transfer(begun.id, "done", totals=MappingProxyType({"inserted": 1}))
        assert done.totals == {"inserted": 1}


@pytest.mark.one_server
async def test_the_history_may_live_in_another_database(home: Home, database: MakeDatabase) -> None:
    url = (await database()).dsn
    for number in range(2):
        async with History.open(home, url) as history:
            record = backup(f"bundle-{number}", created_at=NOON + timedelta(days=number))
            await history.add_backup(record)
            assert await history.backup(record.id) == record
            await history.change_backup(record.id, pinned=True, verified_at=NOON)
            begun = await history.start_transfer(transfer())
            await history.end_transfer(begun.id, "done", receipt=b"\x00", totals={"inserted": 2})
            assert (await history.transfers(state="done", limit=1))[0].receipt == b"\x00"
    async with History.open(home, url) as history:
        assert [found.id for found in await history.backups(pinned=True)] == ["bundle-1", "bundle-0"]
    assert not home.history.exists()


async def test_the_history_may_be_another_file(home: Home, tmp_path: Path) -> None:
    for _ in range(2):
        async with History.open(home, f"sqlite:///{tmp_path}/elsewhere.sqlite") as history:
            await history.add_backup(backup("b1"))
            assert [found.id for found in await history.backups()] == ["b1"]
    assert not home.history.exists()


async def test_a_cancelled_call_leaves_the_history_usable(home: Home) -> None:
    async with History.open(home) as history:

        async def work() -> None:
            begun = await history.start_transfer(transfer())
            await history.end_transfer(begun.id, "done")

        for _ in range(60):
            task = asyncio.create_task(work())
            await asyncio.sleep(random.random() * 0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(work(), 10)


UNFINISHED = """
    from datetime import datetime, UTC
    from agent.archive.history import History
    from agent.archive.records import RestoreRecord, TransferRecord
    async def main():
        async with History.open(home) as history:
            await history.start_transfer(TransferRecord("t", "sent", "push", "full", "n", "l", "", datetime.now(UTC)))
            await history.start_restore(RestoreRecord("r", "b", "f", "full", "newer", "", datetime.now(UTC)))
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)
    asyncio.run(main())
"""


async def test_work_of_a_killed_process_is_interrupted_and_of_a_living_one_not(home: Home, child: Child) -> None:
    process = child(UNFINISHED)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    async with History.open(home) as history:
        mine = await history.start_transfer(transfer())
        assert len(await history.transfers(state="started")) == 2
        process.kill()
        process.wait()
        async with History.open(home) as other:
            assert await other.mark_interrupted() == 0  # opening did it already
            (found,) = await other.transfers(state="interrupted")
            assert (found.id, found.owner) == ("t", None)
            assert found.ended_at is not None
            assert "process ended" in (found.error or "")
            assert [item.id for item in await other.restores(state="interrupted")] == ["r"]
            assert [item.id for item in await other.transfers(state="started")] == [mine.id]


WRITER = """
    from datetime import datetime, UTC
    from agent.archive.history import History
    from agent.archive.records import TransferRecord
    async def main():
        async with History.open(home) as history:
            for number in range(40):
                key = f"{sys.argv[2]}-{number}"
                record = TransferRecord(key, "sent", "push", "full", "n", "l", "", datetime.now(UTC))
                await history.start_transfer(record)
                await history.progress_transfer(key, number)
                await history.transfers(limit=3)
                await history.end_transfer(key, "done")
    asyncio.run(main())
"""


async def test_processes_write_at_once_from_an_empty_folder_on(home: Home, child: Child) -> None:
    processes = [child(WRITER, name) for name in "abcd"]
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert [error for _, error in outputs] == [""] * 4
    async with History.open(home) as history:
        found = await history.transfers()
    assert sorted(item.id for item in found) == sorted(f"{name}-{number}" for name in "abcd" for number in range(40))
    assert {item.state for item in found} == {"done"}


async def test_tasks_of_one_process_write_at_once(home: Home) -> None:
    async with History.open(home) as history:
        await asyncio.gather(*(history.add_backup(backup(f"b-{number}")) for number in range(50)))
        assert len(await history.backups()) == 50


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="killing needs no rights, but the loop is POSIX's")
async def test_kill_9_while_writing_leaves_a_sound_database(home: Home, child: Child) -> None:
    for round_ in range(4):
        process = child(WRITER, f"k{round_}")
        await asyncio.sleep(0.9 + 0.1 * round_)
        process.kill()
        process.wait()
    async with History.open(home) as history:
        assert {item.state for item in await history.transfers()} <= {"done", "interrupted"}


async def test_an_unusable_database_is_one_clear_error(home: Home) -> None:
    home.history.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(HistoryError, match="not a database") as caught:
        async with History.open(home):
            pass
    assert caught.value.hint


@pytest.mark.parametrize("url", ["nonsense", "nosuch://u:s3cret@h/d", "postgresql://u:s3cret@127.0.0.1:9/d"])
async def test_a_bad_address_is_an_error_without_its_password(home: Home, url: str) -> None:
    with pytest.raises(HistoryError) as caught:
        async with History.open(home, url):
            pass
    assert "s3cret" not in str(caught.value) + caught.value.hint
    assert caught.value.hint
