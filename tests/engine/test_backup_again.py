"""A business that nobody has touched is backed up from its last bundle: the same rows, a new seal; or it is read."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from agent.database.pages import PAGES_TO_KNOW
from agent.database.part_marks import Marking
from agent.engine.backup import BackupRequest, backup
from agent.engine.bundle_file import verify_bundle
from agent.engine.known import Earlier, Known
from agent.engine.progress import Step
from agent.peers.delta import BaseFile
from agent.tables.catalogue import load_catalogue
from protocol.base import records
from protocol.manifest import Kind
from protocol.records import Tag
from tests.support.backups import NOW, MemorySink, Opened, back_up, open_bundle, origin
from tests.support.restores import OFFICE, Laptop, verify_as
from tests.support.shops import laptop

__all__ = ["laptop"]

SHOP = """
CREATE TABLE users (id text PRIMARY KEY, email text UNIQUE);
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, total integer,
    "userId" text REFERENCES users, "changedAt" timestamp(3), "updatedAt" timestamp(3));
CREATE TABLE lines (id text PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales ON DELETE CASCADE, body text);
CREATE TABLE notes (body text);
INSERT INTO users VALUES ('u1', 'a@x'), ('u2', 'b@x');
INSERT INTO sales SELECT 's' || n, 'b' || 1 + n % 2, n, 'u1', '2026-01-01', '2026-01-01' FROM generate_series(1, 60) n;
INSERT INTO lines SELECT 'l' || n, 's' || 1 + n % 60, repeat('x', n % 90) FROM generate_series(1, 150) n;
"""


class Office:
    """Backs up business b1, each time with what the time before made known."""

    def __init__(self, made: Laptop, part_pages: int = PAGES_TO_KNOW) -> None:
        self.laptop = made
        self.part_pages = part_pages
        self.known: Known | None = None
        self.kept = 0
        self.path = made.folder / "last.bundle"
        self.times = 0

    async def back_up(self, *, read: bool | None = None, sinks: int = 1, **options: Any) -> Opened:
        """The bundle, which must have the rows that a backup from nothing has; whether the database was ``read``, and
        how many ``sinks`` it took."""
        opened = await self.make(read=read, sinks=sinks, **options)
        fresh, _ = await back_up(self.laptop.database.dsn, Kind.BUSINESS, "b1", part_pages=self.part_pages, **options)
        assert in_some_order(opened.rows) == in_some_order(fresh.rows)
        assert in_some_order(opened.stubs) == in_some_order(fresh.stubs)
        assert replace(opened.manifest, bundle_id="") == replace(fresh.manifest, bundle_id="")
        return opened

    async def make(self, *, read: bool | None = None, sinks: int = 1, **options: Any) -> Opened:
        """The bundle."""
        opened_sinks: list[MemorySink] = []
        stages = set()

        def open_sink(_manifest: object) -> MemorySink:
            opened_sinks.append(MemorySink())
            return opened_sinks[-1]

        def progress(step: Step) -> None:
            stages.add(step.stage)

        catalogue = options.pop("catalogue", None) or load_catalogue()
        request = BackupRequest(Kind.BUSINESS, "b1", **options)
        dsn = self.laptop.database.dsn
        file, base = BaseFile("", self.path).open() if self.known is not None else (None, None)
        earlier = Earlier(Known.of(self.known.as_dict()), base) if self.known is not None and base is not None else None
        try:
            result = await backup(
                dsn,
                catalogue,
                request,
                origin(),
                open_sink,
                now=lambda: NOW,
                earlier=earlier,
                progress=progress,
                part_pages=self.part_pages,
            )
        finally:
            if file is not None:
                file.close()
        assert read is None or ("checking" in stages) == read
        assert [sink.committed for sink in opened_sinks] == [False] * (sinks - 1) + [True]
        data = bytes(opened_sinks[-1].data)
        self.path.write_bytes(data)
        bundle = await verify_bundle(self.path, verify_as(OFFICE))
        assert bundle.manifest == result.manifest
        self.known, self.kept = result.known, result.kept
        return open_bundle(data)


def in_some_order(tables: dict[str, list[dict[str, str]]]) -> dict[str, list[list[str]]]:
    """Rows by table: a table that was written anew has the same ones in another order."""
    return {name: sorted([*row.values()] for row in rows) for name, rows in tables.items()}


@pytest.fixture
async def office(laptop: Any) -> Office:
    """A shop that was backed up once."""
    made = Office(await laptop(SHOP))
    await made.back_up(read=True)
    assert made.known is not None
    return made


async def test_what_nobody_touched_is_not_read_again(office: Office) -> None:
    first = await office.back_up(read=False, target_node="node-kitchen")
    second = await office.back_up(read=False)
    assert first.manifest.bundle_id != second.manifest.bundle_id
    assert len(second.rows["sales"]) == 30
    await office.laptop.execute("INSERT INTO notes VALUES ('unclassified tables are not in it')")
    await office.back_up(read=False)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sales SET total = 0 WHERE id = 's1'",
        "DELETE FROM lines WHERE id = 'l9'",
        "INSERT INTO lines VALUES ('new', 's1', 'y'); DELETE FROM lines WHERE id = 'l9'",
        "UPDATE users SET email = 'c@x' WHERE id = 'u2'",
        "UPDATE businesses SET name = 'Grill & Bar' WHERE id = 'b1'",
        "ALTER TABLE sales ADD COLUMN paid boolean NOT NULL DEFAULT true",
        "TRUNCATE lines",
        "ALTER TABLE users DROP COLUMN email; ALTER TABLE users ADD COLUMN email text UNIQUE",
        'ALTER TABLE sales RENAME "changedAt" TO old; ALTER TABLE sales RENAME "updatedAt" TO "changedAt"; '
        'ALTER TABLE sales RENAME old TO "updatedAt"',
        "ALTER TABLE lines RENAME TO old; CREATE TABLE lines (LIKE old INCLUDING ALL); "
        "INSERT INTO lines SELECT * FROM old LIMIT 150; DROP TABLE old",
    ],
)
async def test_any_change_is_read(office: Office, statement: str) -> None:
    await office.laptop.execute(statement)
    await office.back_up(read=True)


async def test_another_way_to_make_it_is_read(office: Office) -> None:
    await office.back_up(read=True, compress=False)
    await office.back_up(read=True)
    await office.back_up(read=False)
    # The clock of a table stands beside its key in the rows.
    await office.back_up(read=True, catalogue=load_catalogue('timestamps = ["changedAt", "updatedAt"]'))


async def test_whoever_is_at_work_is_seen(laptop: Any) -> None:
    """A transaction that was open at the backup writes afterwards, under an id that it had before."""
    office = Office(await laptop(SHOP))
    async with office.laptop.database.connect() as other:
        await other.execute("BEGIN; INSERT INTO notes VALUES ('a'); SAVEPOINT s; INSERT INTO notes VALUES ('b')")
        await office.back_up(read=True)
        await other.execute("UPDATE sales SET total = 77 WHERE id = 's1'; COMMIT")
        await office.back_up(read=True)
        await other.execute("BEGIN; UPDATE sales SET total = 78 WHERE id = 's1'")
        await office.back_up(read=False)
        await other.execute("COMMIT")
        await office.back_up(read=True)


async def test_a_table_that_was_just_written_beside_another_is_no_base(laptop: Any) -> None:
    """While an old transaction is open, nobody can say which rows were there when it began."""
    office = Office(await laptop(SHOP))
    async with office.laptop.database.connect() as other:
        await other.execute("BEGIN; INSERT INTO notes VALUES ('a')")
        await office.laptop.execute("UPDATE sales SET total = 5 WHERE id = 's1'")
        await office.back_up(read=True)
        await office.back_up(read=True)
        assert office.kept
    await office.back_up(read=True)
    await office.back_up(read=False)


async def test_a_backup_that_is_read_is_whole_whether_its_tables_can_be_marked_or_not(
    laptop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(await laptop(SHOP))

    async def lost(_marking: Marking, connection: Any) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(Marking, "go_on", lost)
    await office.back_up(read=True)
    assert office.known is None


async def test_an_earlier_bundle_that_is_damaged_is_not_used(office: Office) -> None:
    data = bytearray(office.path.read_bytes())
    frames = [
        (position, whole)
        for position, tag, whole in records(lambda position, size: bytes(data[position : position + size]))
        if tag is Tag.FRAME
    ]
    position, whole = max(frames, key=lambda frame: len(frame[1]))
    data[position + len(whole) - 1] ^= 1  # the last byte of its rows
    office.path.write_bytes(bytes(data))
    await office.back_up(read=True)


async def test_an_earlier_bundle_that_goes_meanwhile_is_done_without(office: Office) -> None:
    assert office.known is not None
    file, base = BaseFile("", office.path).open()
    os.truncate(office.path, office.path.stat().st_size // 2)
    sinks: list[MemorySink] = []

    def open_sink(_manifest: object) -> MemorySink:
        sinks.append(MemorySink())
        return sinks[-1]

    await backup(
        office.laptop.database.dsn,
        load_catalogue(),
        BackupRequest(Kind.BUSINESS, "b1"),
        origin(),
        open_sink,
        now=lambda: NOW,
        earlier=Earlier(office.known, base),
    )
    file.close()
    assert [sink.committed for sink in sinks] == [False, True]
    assert len(open_bundle(bytes(sinks[-1].data)).rows["sales"]) == 30
