"""Retention over simulated years. What is kept, day by day, is held in ``golden/``: read a change of it before you
accept it with ``BACKROOM_WRITE_GOLDEN=1``."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.archive.retention import DEFAULT_RULES, Copy, Rule, Verdict, decide

GOLDEN = Path(__file__).parent / "golden"
HARARE = ZoneInfo("Africa/Harare")
START = date(2026, 1, 1)
FULL, BUSINESS, DEVICE = "full", "business-specific", "full-device"


class Laptop:
    """A laptop that backs up and prunes, day after day. ``wrong`` is how far its clock is off."""

    def __init__(self, zone: ZoneInfo = HARARE, node: str = "node-office") -> None:
        self.zone = zone
        self.node = node
        self.kept: dict[str, Copy] = {}
        self.removed: list[Verdict] = []
        self.wrong = timedelta(0)
        self.number = 0

    def now(self, day: date, hour: int = 21, minute: int = 0) -> datetime:
        return datetime.combine(day, time(hour, minute), self.zone).astimezone(UTC) + self.wrong

    def make(self, kind: str, at: datetime, business: str | None = None, **more: object) -> Copy:
        self.number += 1
        made = Copy(f"{kind[:4]}-{self.number:05}", kind, business, self.node, at, at)
        made = replace(made, **more)  # type: ignore[arg-type]
        self.kept[made.id] = made
        return made

    def prune(self, now: datetime) -> tuple[Verdict, ...]:
        verdicts = decide(self.kept.values(), now=now, zone=self.zone)
        for verdict in verdicts:
            assert verdict.reasons
            if not verdict.keep:
                self.removed.append(verdict)
                del self.kept[verdict.copy.id]
        return verdicts

    def day(self, day: date, *, kinds: Iterable[str] = (FULL, BUSINESS, DEVICE)) -> None:
        for kind in kinds:
            self.make(kind, self.now(day), "biz-restaurant" if kind == BUSINESS else None)
        self.prune(self.now(day, minute=30))


def days(number: int, start: date = START) -> list[date]:
    return [start + timedelta(days=each) for each in range(number)]


def shown(laptop: Laptop, now: datetime, title: str) -> list[str]:
    lines = [f"== {title} ({now.astimezone(laptop.zone):%Y-%m-%d %H:%M})"]
    groups: dict[str, list[Verdict]] = {}
    for verdict in decide(laptop.kept.values(), now=now, zone=laptop.zone):
        groups.setdefault(" ".join(filter(None, verdict.copy.group)), []).append(verdict)
    for group, verdicts in sorted(groups.items()):
        lines.append(f"-- {group}: {len(verdicts)}")
        for verdict in verdicts:
            what = "keep" if verdict.keep else "REMOVE"
            when = verdict.copy.created.astimezone(laptop.zone)
            lines.append(f"{what} {when:%Y-%m-%d %H:%M %Z}: {'; '.join(verdict.reasons)}")
    return lines


def hold(name: str, lines: list[str]) -> None:
    path = GOLDEN / f"retention-{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("BACKROOM_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_two_years_of_daily_use() -> None:
    laptop = Laptop()
    lines = []
    for day in days(730):
        laptop.day(day)
        if day in (date(2026, 1, 10), date(2026, 3, 31), date(2027, 1, 1), date(2027, 12, 31)):
            lines += shown(laptop, laptop.now(day, 22), "after daily use")
    hold("daily-use", lines)


def test_two_months_closed_lose_nothing() -> None:
    laptop = Laptop()
    for day in days(200):
        laptop.day(day)
    before = set(laptop.kept)
    back = START + timedelta(days=200 + 61)
    assert all(verdict.keep for verdict in laptop.prune(laptop.now(back, 8)))
    assert set(laptop.kept) == before
    lines = shown(laptop, laptop.now(back, 8), "opened again after two months")
    for day in days(10, back):
        laptop.day(day)
    hold("absence", lines + shown(laptop, laptop.now(back + timedelta(days=9), 22), "ten days later"))


@pytest.mark.parametrize(("name", "off"), [("ahead", timedelta(days=365)), ("behind", -timedelta(days=365))])
def test_a_clock_wrong_by_a_year_costs_no_good_backup(name: str, off: timedelta) -> None:
    laptop = Laptop()
    for day in days(400):
        laptop.day(day)
    good = set(laptop.kept)
    laptop.wrong = off
    for day in days(10, START + timedelta(days=400)):
        laptop.day(day)
    during = {verdict.copy.id for verdict in laptop.removed if verdict.copy.id in good}
    lines = shown(laptop, laptop.now(START + timedelta(days=409), 22), f"ten days with the clock a year {name}")
    laptop.wrong = timedelta(0)
    for day in days(40, START + timedelta(days=410)):
        laptop.day(day)
    lines += shown(laptop, laptop.now(START + timedelta(days=449), 22), "forty days after it was set right")
    hold(f"clock-{name}", lines)
    assert not during
    latest = date(2027, 2, 4)  # the last day before the clock went wrong
    assert {copy.created.date() for copy in laptop.kept.values() if copy.id in good} >= {latest}


def test_after_a_long_absence_the_old_ones_go_once_the_new_ones_reach_over_a_month() -> None:
    laptop = Laptop()
    for day in days(100):
        laptop.day(day)
    before = set(laptop.kept)
    back = START + timedelta(days=300)
    for day in days(30, back):
        laptop.day(day)
    assert before <= set(laptop.kept)
    for day in days(60, back + timedelta(days=30)):
        laptop.day(day)
    assert len([each for each in laptop.kept.values() if each.kind == BUSINESS]) <= 30 + 12


def test_forged_bundles_of_a_peer_push_nothing_out() -> None:
    """A peer that was broken into sends bundles dated into every day of its own group, to be the newest of each.

    Only the day of the deed itself is theirs: that a bundle signed today is of today, nobody can tell from a forgery.
    """
    honest, attacked = Laptop(), Laptop()
    for day in days(400):
        for laptop in (honest, attacked):
            laptop.day(day)
            at = laptop.now(day, 20)
            laptop.make(BUSINESS, at, "biz-restaurant", source_node="node-kitchen", id=f"kitchen-{day}", verified=True)
    night = START + timedelta(days=399)
    for day in days(500, START - timedelta(days=50)):
        late = attacked.now(night, 23)
        made = attacked.now(day, 23, 59)
        for source in ("node-kitchen", "node-thief"):
            attacked.make(BUSINESS, made, "biz-restaurant", source_node=source, recorded=late, verified=True)
    for laptop in (honest, attacked):
        for day in days(60, START + timedelta(days=400)):
            laptop.day(day)
    lost = {each for each in honest.kept if each.startswith("kitchen")} - set(attacked.kept)
    assert lost <= {f"kitchen-{night}"}
    own = {copy.created for copy in honest.kept.values() if copy.source_node == "node-office"}
    assert own == {copy.created for copy in attacked.kept.values() if copy.source_node == "node-office"}
    hold("forged", shown(attacked, attacked.now(START + timedelta(days=459), 22), "sixty days after the forgery"))


def test_days_are_the_days_of_the_laptop() -> None:
    """Two backups an hour apart, around midnight in one zone and within one day in another; across DST and travel."""
    lines = []
    for name in ("Pacific/Auckland", "America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu"):
        laptop = Laptop(ZoneInfo(name))
        for day in days(40, date(2026, 10, 5)):
            for hour in (11, 12):  # UTC: around midnight in Auckland (daylight saving: UTC+13)
                laptop.make(FULL, datetime.combine(day, time(hour, 30), UTC))
        laptop.prune(datetime(2026, 11, 14, tzinfo=UTC))
        lines += shown(laptop, datetime(2026, 11, 14, tzinfo=UTC), name)
    hold("zones", lines)


def test_the_same_moment_in_any_zone_is_the_same_backup() -> None:
    laptop = Laptop()
    for day in days(100):
        laptop.make(FULL, laptop.now(day))
    moved = [replace(copy, created=copy.created.astimezone(ZoneInfo("Asia/Tokyo"))) for copy in laptop.kept.values()]
    now = laptop.now(date(2026, 5, 1))

    def kept(copies: Iterable[Copy]) -> list[tuple[str, bool, tuple[str, ...]]]:
        return [(v.copy.id, v.keep, v.reasons) for v in decide(copies, now=now, zone=HARARE)]

    assert kept(moved) == kept(laptop.kept.values())


def one(copies: Iterable[Copy], wanted: str, now: datetime) -> Verdict:
    return next(v for v in decide(copies, now=now, zone=HARARE) if v.copy.id == wanted)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pinned": True}, "pinned"),
        ({"in_use": "a push"}, "in use: a push"),
        ({"verified": True}, "the last verified one"),
        ({"origin": "undo"}, "the way back from a restore"),
        ({"damaged": True}, "damaged, but no later one of its group is verified"),
    ],
)
def test_what_is_never_removed(change: dict[str, object], reason: str) -> None:
    laptop = Laptop()
    for day in days(60):
        laptop.make(DEVICE, laptop.now(day))
    old = laptop.kept["full-00002"]
    now = laptop.now(START + timedelta(days=60))
    assert not one(laptop.kept.values(), old.id, now).keep
    laptop.kept[old.id] = replace(old, **change)  # type: ignore[arg-type]
    verdict = one(laptop.kept.values(), old.id, now)
    assert verdict.keep
    assert reason in verdict.reasons


def test_a_damaged_one_fills_no_period_and_goes_once_a_later_one_is_verified() -> None:
    laptop = Laptop()
    good = laptop.make(FULL, laptop.now(START, 8))
    bad = laptop.make(FULL, laptop.now(START, 20), damaged=True)
    now = laptop.now(START, 22)
    assert "daily 1 of 7 (2026-01-01)" in one(laptop.kept.values(), good.id, now).reasons
    assert one(laptop.kept.values(), bad.id, now).keep
    laptop.make(FULL, laptop.now(START, 21), verified=True)
    assert one(laptop.kept.values(), bad.id, now).reasons == ("damaged",)
    assert one(laptop.kept.values(), good.id, now).reasons == ("a later one of 2026-01-01 is kept",)


def test_an_unknown_kind_is_kept() -> None:
    laptop = Laptop()
    made = laptop.make("hologram", laptop.now(START))
    assert decide(laptop.kept.values(), now=laptop.now(START, 22), zone=HARARE)[0] == Verdict(
        made, True, ("no rule for bundles of kind hologram",)
    )


def test_rules_as_text() -> None:
    assert Rule.parse("7d 4w 12m") == DEFAULT_RULES[FULL]
    assert Rule.parse("30d12w") == DEFAULT_RULES[BUSINESS]
    assert Rule.parse("2w") == Rule(0, 2, 0)
    for wrong in ("", "7", "7x", "4w 7d", "d", "-1d", "99999d"):
        with pytest.raises(ValueError, match="is not a rule"):
            Rule.parse(wrong)


MOMENTS = st.integers(0, 730 * 24).map(lambda hours: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hours))
COPIES = st.lists(
    st.builds(
        Copy,
        id=st.uuids().map(str),
        kind=st.sampled_from([FULL, BUSINESS, DEVICE]),
        business_id=st.sampled_from([None, "a"]),
        source_node=st.sampled_from(["n", "m"]),
        created=MOMENTS,
        recorded=MOMENTS,
        verified=st.booleans(),
        damaged=st.booleans(),
        pinned=st.booleans(),
        in_use=st.sampled_from(["", "", "", "a drill"]),
    ),
    max_size=60,
    unique_by=lambda copy: copy.id,
)


@settings(max_examples=150)
@given(copies=COPIES, seed=st.integers(0, 99))
def test_promises_hold_for_any_archive(copies: list[Copy], seed: int) -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    verdicts = decide(copies, now=now, zone=HARARE)
    assert sorted(v.copy.id for v in verdicts) == sorted(copy.id for copy in copies)
    kept = {v.copy.id for v in verdicts if v.keep}
    for verdict in verdicts:
        if not verdict.keep:
            assert not verdict.copy.pinned
            assert not verdict.copy.in_use
            assert verdict.copy.created <= now + timedelta(hours=1)
    by_group: dict[object, list[Copy]] = {}
    for copy in copies:
        by_group.setdefault(copy.group, []).append(copy)
    for members in by_group.values():
        assert any(copy.id in kept for copy in members)
        for good in (lambda copy: copy.verified and not copy.damaged, lambda copy: not copy.damaged):
            if found := [copy for copy in members if good(copy)]:
                assert max(found, key=lambda copy: (copy.created, copy.id)).id in kept
    shuffled = copies[:]
    random.Random(seed).shuffle(shuffled)
    assert decide(shuffled, now=now, zone=HARARE) == verdicts
    again = decide([v.copy for v in verdicts if v.keep], now=now, zone=HARARE)
    assert all(v.keep for v in again), "pruning twice removes no more"


def test_a_thousand_bundles_take_no_thousand_looks() -> None:
    laptop = Laptop()
    for day in days(1000):
        laptop.make(BUSINESS, laptop.now(day), "biz")
    seen = 0
    zone = HARARE

    class Counting(ZoneInfo):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            nonlocal seen
            seen += 1
            return zone.utcoffset(when)

    decide(laptop.kept.values(), now=laptop.now(date(2029, 1, 1)), zone=Counting("Africa/Harare"))
    assert seen < 20_000
