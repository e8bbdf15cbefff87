"""What the first start and settings need: the platform's address, a look at the database, the schedule, numbers."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from agent.archive.records import DONE, RUNNING, RunRecord
from agent.config import BadConfigError, load
from agent.operations.measures import log_lines, measures
from agent.operations.platform_env import NoAddress, address_in, lying_about, where
from agent.operations.scheduling import NoSuchEntry, add_entry, remove_entry, suggested, switch_entry
from agent.operations.setup import look_at
from agent.operations.workspace import Workspace, utc_now
from agent.schedule.runner import Runner
from agent.schedule.seen import Seen
from agent.web.pages.charts import HEIGHT, MARGIN, WIDTH, chart
from tests.support.archives import NOON, keep, workspace_at
from tests.support.databases import Database

URL = "postgresql://shop:s3cr3t@db.local:5433/platform?schema=public"


@pytest.mark.parametrize(
    "line",
    [
        f"DATABASE_URL={URL}",
        f'DATABASE_URL="{URL}"',
        f"export DATABASE_URL = '{URL}'  # the shop's",
        f"# DATABASE_URL=postgresql://old@x/y\nPORT=1\r\nDATABASE_URL={URL}\r\n",
        f'DATABASE_URL="file:./dev.db"\nDATABASE_URL="{URL}"',
    ],
)
def test_the_address_is_read_as_platforms_write_it(line: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(line)
    for place in (tmp_path, tmp_path / ".env"):
        found = address_in(place)
        assert (found.url, where(found.url)) == (URL, ("platform", "db.local:5433"))
        assert "s3cr3t" not in repr(found)


@pytest.mark.parametrize("content", ["", "DATABASE_URL=", "DATABASE_URL=mysql://x/y", "OTHER_DATABASE_URL=" + URL])
def test_what_is_no_address_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(content)
    for place in (tmp_path, tmp_path / ".env", tmp_path / "nowhere"):
        with pytest.raises(NoAddress):
            address_in(place)


def test_addresses_that_lie_about_are_found_near_first_and_once(tmp_path: Path) -> None:
    for folder, url in (("a/platform", "postgresql://a/near"), ("b", "postgresql://a/b"), ("c/d", "postgresql://a/b")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ".env").write_text(f"DATABASE_URL={url}\n")
    for hidden in ("x/y/z", "node_modules", ".cache"):
        (tmp_path / hidden).mkdir(parents=True)
        (tmp_path / hidden / ".env").write_text("DATABASE_URL=postgresql://a/hidden\n")
    assert [each.url for each in lying_about((tmp_path, tmp_path))] == ["postgresql://a/b", "postgresql://a/near"]
    assert lying_about((tmp_path / "nowhere",)) == ()


def test_where_tells_neither_user_nor_password() -> None:
    assert where("postgresql://u:p@/x?host=/run") == ("x", "")
    assert where("postgresql://u:p@[::1/x") == ("?", "?")


@pytest.mark.one_server
async def test_the_look_names_what_the_user_of_the_database_lacks(filled_database: Database) -> None:
    looked = await look_at(filled_database.dsn)
    assert (looked.lacking, "Restaurant ABC" in looked.businesses) == ({}, True)
    assert sum(looked.classes.values()) == looked.tables
    async with filled_database.connect() as connection:
        await connection.execute("REVOKE UPDATE, DELETE ON business_products FROM CURRENT_USER")
    looked = await look_at(filled_database.dsn)
    assert looked.lacking == {"business_products": ("UPDATE", "DELETE")}


async def test_what_is_switched_off_is_not_done_and_not_missing(tmp_path: Path) -> None:
    laptop = workspace_at(tmp_path / "home")
    at = (utc_now() - timedelta(hours=1)).strftime("%H:%M")
    add_entry(laptop.home, name="tidy", task="prune", at=(at,))
    switch_entry(laptop.home, "TIDY", on=False)
    text = laptop.home.config.read_text()
    assert "off = true" in text
    laptop.home.config.write_text(text.replace(str(utc_now().year), "2020"))  # added long ago
    (seen,) = await Seen().look(Workspace(laptop.home))
    assert (seen.next, seen.missing) == (None, False)
    await Runner(Workspace(laptop.home), zone=UTC).round()
    async with laptop.history() as history:
        assert await history.runs() == ()
    switch_entry(laptop.home, "tidy", on=True)
    (entry,) = load(laptop.home, {}).schedule
    assert entry.added is not None
    assert entry.added.year == utc_now().year
    (seen,) = await Seen().look(Workspace(laptop.home))
    assert (seen.missing, seen.next is not None) == (False, True)
    for name in ("other", ""):
        with pytest.raises(NoSuchEntry):
            switch_entry(laptop.home, name, on=True)
        with pytest.raises(NoSuchEntry):
            remove_entry(laptop.home, name)
    with pytest.raises(BadConfigError, match="two entries are named"):
        add_entry(laptop.home, name="Tidy", task="prune")
    for each in suggested():
        add_entry(laptop.home, **{**each, "name": f"{each['name']}-2"})
    assert len(load(laptop.home, {}).schedule) == 1 + len(suggested())


async def test_numbers_over_time_and_the_log(tmp_path: Path) -> None:
    laptop = workspace_at(tmp_path / "home")
    async with laptop.history() as history:
        for day in range(3):
            await keep(laptop, history, NOON + timedelta(days=day))
            run = RunRecord(f"run-{day}", "nightly", "backup", RUNNING, NOON + timedelta(days=day))
            await history.start_run(run)
            await history.end_run(run.id, DONE)
    seen = await measures(laptop)
    sizes, lengths = seen.series
    assert (sizes.what, sizes.about, [at for at, _ in sizes.points]) == (
        "size", "full", [NOON + timedelta(days=day) for day in range(3)],
    )  # fmt: skip
    # They all ended now, so that the later one began the less time it took.
    numbers = [number for _, number in lengths.points]
    assert (lengths.what, len(numbers), numbers) == ("backup", 3, sorted(numbers, reverse=True))
    assert dict(seen.last)["backup"] == NOON + timedelta(days=2)
    assert dict(seen.last)["push"] is None
    drawn = chart(lengths)
    assert (drawn.least, drawn.newest, drawn.most) == (numbers[2], numbers[2], numbers[0])
    places = [tuple(map(float, point.split(","))) for point in drawn.line.split()]
    assert places[0] == (MARGIN, MARGIN)
    assert places[-1] == drawn.end
    assert drawn.end[0] == WIDTH - MARGIN
    assert [down for _, down in places] == sorted(down for _, down in places)
    assert all(0 <= down <= HEIGHT for _, down in places)

    log = laptop.home.logs / "backroom.jsonl"
    assert await log_lines(laptop) == ()
    said = {"timestamp": "2026-06-01T12:00:00Z", "level": "warning", "event": "join refused", "error": "wrong-code"}
    quiet = {**said, "level": "info", "event": "ready"}
    lines = [json.dumps(quiet), json.dumps(said), "cut off {", json.dumps({**said, "event": "later"})]
    log.write_text("\n".join(lines) + "\n")
    assert [(each.event, each.facts) for each in await log_lines(laptop)] == [
        ("later", "error: wrong-code"),
        ("join refused", "error: wrong-code"),
    ]
