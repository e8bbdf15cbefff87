"""The schedule, simulated: hour by hour, across clock changes, sleep, failures and wrong clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.schedule.due import Due, Entry, Past, Run, due, jitter, latest_slot, missing, next_slot, past_of, slots_of

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = Entry("evening", "backup", (time(21),))
START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(minutes=10)


class Agent:
    """A laptop that asks what is due at every tick while it is awake. Each run takes ``takes``."""

    def __init__(self, *entries: Entry, zone: ZoneInfo = BERLIN) -> None:
        self.entries = list(entries)
        self.zone = zone
        self.runs: dict[str, list[Run]] = {}
        self.done: list[tuple[datetime, Due]] = []
        self.online: dict[str, datetime] = {}
        self.takes = timedelta(minutes=1)
        self.busy_until = START
        self.ok: Callable[[datetime], bool] = lambda _now: True

    def pasts(self, now: datetime) -> dict[str, Past]:
        return {name: past_of(runs[-10:], now) for name, runs in self.runs.items()}

    def tick(self, now: datetime) -> None:
        pasts = self.pasts(now)
        found = due(self.entries, pasts, now=now, zone=self.zone, online=self.online, seed="node")
        if found and now >= self.busy_until:
            first = found[0]
            self.runs.setdefault(first.entry.name, []).append(Run(now, first.slot, self.ok(now)))
            self.done.append((now, first))
            self.busy_until = now + self.takes

    def live(
        self,
        start: datetime,
        end: datetime,
        awake: Callable[[datetime], bool] = lambda _now: True,
        every: timedelta = TICK,
    ) -> None:
        now = start
        while now < end:
            if awake(now):
                self.tick(now)
            now += every


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Harare", "Pacific/Apia", "Asia/Gaza"]
)
@pytest.mark.parametrize("at", [time(2, 30), time(0)])
def test_one_run_for_each_day_of_a_year_whatever_the_clocks_do(name: str, at: time) -> None:
    zone = ZoneInfo(name)
    agent = Agent(Entry("e", "backup", (at,), added=START), zone=zone)
    agent.live(START, START + timedelta(days=366), every=timedelta(hours=1))
    days = Counter(each.slot.astimezone(zone).date() for _, each in agent.done if each.slot)
    assert set(days.values()) == {1}
    assert len(days) in (365, 366, 367)
    assert all(now - each.slot <= timedelta(hours=1) for now, each in agent.done if each.slot)


def test_a_time_that_is_left_out_and_one_that_comes_twice() -> None:
    night = Entry("night", "backup", (time(2, 30),))
    (spring,) = slots_of(night, date(2026, 3, 29), BERLIN)
    assert spring == datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "03:30 summer time: half an hour after the change"
    (autumn,) = slots_of(night, date(2026, 10, 25), BERLIN)
    assert autumn == datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "the first 02:30"
    assert next_slot(night, autumn, BERLIN) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_sleep_is_made_up_for_once() -> None:
    agent = Agent(replace(EVENING, added=START))
    asleep = (START + timedelta(days=10), START + timedelta(days=71, hours=8))
    agent.live(START, START + timedelta(days=80), lambda now: not asleep[0] <= now < asleep[1])
    after = [each for now, each in agent.done if now >= asleep[1]]
    assert after[0].why == "catching up"
    assert after[0].slot == datetime(2026, 3, 12, 20, tzinfo=UTC)
    assert [each.why for each in after[1:]] == ["its time"] * 9
    assert len(agent.done) == 10 + 1 + 9


def test_open_for_an_hour_a_day_is_enough() -> None:
    agent = Agent(replace(EVENING, added=START))
    agent.live(START, START + timedelta(days=100), lambda now: now.hour == 9, every=timedelta(hours=1))
    assert len(agent.done) == 99
    assert {each.why for _, each in agent.done} == {"catching up"}


def test_weekdays_and_days_of_the_month() -> None:
    agent = Agent(
        Entry("weekly", "verify", (time(3), time(15)), ("mon", "thu"), added=START),
        Entry("monthly", "drill", (time(4),), ("1", "31"), added=START),
    )
    agent.live(START, START + timedelta(days=365), every=timedelta(hours=1))
    weekly = [each.slot.astimezone(BERLIN) for _, each in agent.done if each.slot and each.entry.name == "weekly"]
    assert {each.weekday() for each in weekly} == {0, 3}
    assert len(weekly) == 2 * (52 + 53)
    monthly = [each.slot.astimezone(BERLIN) for _, each in agent.done if each.slot and each.entry.name == "monthly"]
    assert len(monthly) == 12 + 7
    assert {each.day for each in monthly} == {1, 31}


def test_never_two_at_once_and_backups_first() -> None:
    entries = [Entry(task, task, (time(21),), added=START) for task in ("prune", "drill", "verify", "backup")]
    agent = Agent(*entries)
    agent.takes = timedelta(minutes=45)
    agent.live(START, START + timedelta(days=30))
    times = [now for now, _ in agent.done]
    assert all(later - now >= agent.takes for now, later in pairwise(times))
    assert [each.entry.task for _, each in agent.done] == ["backup", "verify", "drill", "prune"] * 30


def test_what_was_missed_before_it_was_added_is_not_due() -> None:
    added = datetime(2026, 5, 5, 20, 30, tzinfo=UTC)
    entry = replace(EVENING, added=added)
    assert latest_slot(entry, added + timedelta(hours=1), BERLIN) is None
    assert not due([entry], {}, now=added + timedelta(hours=1), zone=BERLIN, online={})
    assert due([entry], {}, now=added + timedelta(hours=23), zone=BERLIN, online={})


def test_a_failure_is_tried_again_later_and_later() -> None:
    agent = Agent(replace(EVENING, added=START))
    agent.ok = lambda now: now.hour == 5
    agent.live(START, START + timedelta(hours=36))
    first = agent.done[0][0]
    assert first == datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
    waits = [(now - first).total_seconds() / 60 for now, _ in agent.done]
    assert waits == [0, 10, 30, 90, 330, 570]
    assert agent.done[-1][0].hour == 5
    assert {each.why for _, each in agent.done[1:]} == {"trying again"}


def test_jitter_spreads_and_never_starves() -> None:
    hourly = Entry("h", "backup", tuple(time(hour) for hour in range(24)), jitter=timedelta(hours=12), added=START)
    agent = Agent(hourly)
    agent.live(START, START + timedelta(days=30))
    assert len(agent.done) == 30 * 24
    daily = replace(EVENING, jitter=timedelta(minutes=60), added=START)
    slot = datetime(2026, 5, 5, 19, tzinfo=UTC)
    spread = {jitter(daily, slot, BERLIN, f"node-{number}") for number in range(200)}
    assert len(spread) > 190
    assert min(spread) < timedelta(minutes=3)
    assert timedelta(minutes=57) < max(spread) <= timedelta(minutes=60)
    assert jitter(daily, slot, BERLIN, "a") == jitter(daily, slot, BERLIN, "a")


def standing_push(**more: object) -> Entry:
    return replace(Entry("push", "push", (time(21),), device="laptop-sales-002", added=START), **more)  # type: ignore[arg-type]


def test_a_standing_push_waits_for_its_device() -> None:
    agent = Agent(standing_push())
    agent.live(START, START + timedelta(days=3))
    assert agent.done == []
    back = START + timedelta(days=3, hours=8)
    agent.online = {"laptop-sales-002": back}
    agent.live(back, back + timedelta(hours=10))
    assert [(now, each.why) for now, each in agent.done] == [(back, "catching up")]


def test_a_standing_push_is_made_every_evening_and_when_its_device_comes_back() -> None:
    agent = Agent(standing_push(when_online=True))
    now = START
    while now < START + timedelta(days=10):
        there = 8 <= now.hour < 12 or 13 <= now.hour < 22
        if there and not agent.online:
            agent.online = {"laptop-sales-002": now}
        elif not there:
            agent.online = {}
        agent.tick(now)
        now += TICK
    by_day = Counter(now.date() for now, _ in agent.done)
    assert set(by_day.values()) == {3}, "morning, after lunch, evening"
    assert {each.why for _, each in agent.done} == {"its time", "its device came online"}


def test_a_flapping_device_is_not_pushed_to_all_the_time() -> None:
    agent = Agent(standing_push(when_online=True))
    now = START
    while now < START + timedelta(days=1):
        agent.online = {"laptop-sales-002": now}
        agent.tick(now)
        now += TICK
    assert len(agent.done) <= 25


def test_a_clock_that_was_a_year_ahead_blocks_nothing() -> None:
    agent = Agent(replace(EVENING, added=START))
    agent.live(START + timedelta(days=370), START + timedelta(days=373))
    before = len(agent.done)
    agent.busy_until = START
    agent.live(START + timedelta(days=8), START + timedelta(days=18))
    assert len(agent.done) - before == 11, "one to catch up, then one a day"


def test_an_entry_added_by_a_clock_that_was_a_year_ahead_is_due_and_missed() -> None:
    entry = replace(EVENING, added=START + timedelta(days=365))
    agent = Agent(entry)
    agent.live(START, START + timedelta(days=10))
    assert len(agent.done) == 11, "one to catch up, then one a day"
    late = datetime(2026, 1, 5, 20, tzinfo=UTC) + timedelta(hours=13)
    assert [each.slot for each in missing([entry], {}, now=late, zone=BERLIN, awake_since=None)]


@pytest.mark.parametrize("ahead", [timedelta(hours=-5), timedelta(minutes=50)])
def test_what_was_missed_before_an_entry_was_added_is_no_alarm(ahead: timedelta) -> None:
    now = datetime(2026, 1, 6, 9, tzinfo=UTC)
    entry = replace(EVENING, added=now + ahead)
    assert not missing([entry], {}, now=now, zone=BERLIN, awake_since=None)
    assert not due([entry], {}, now=now, zone=BERLIN, online={})


def test_a_clock_that_was_a_year_behind_makes_it_due_once() -> None:
    agent = Agent(EVENING)
    agent.live(START, START + timedelta(days=5))
    before = len(agent.done)
    agent.live(START + timedelta(days=365), START + timedelta(days=366))
    assert len(agent.done) - before == 2


def test_what_is_missing_is_an_alarm_as_much_as_what_failed() -> None:
    entry = replace(EVENING, added=START)
    slot = datetime(2026, 1, 5, 20, tzinfo=UTC)
    late = slot + timedelta(hours=13)

    def alarm(past: Past, now: datetime = late, awake: datetime | None = None) -> list[datetime]:
        return [each.slot for each in missing([entry], {"evening": past}, now=now, zone=BERLIN, awake_since=awake)]

    assert alarm(Past()) == [slot]
    assert alarm(Past(slot=slot, attempted=slot, failures=3)) == [slot]
    assert alarm(Past(slot=slot, attempted=slot, succeeded=slot + timedelta(minutes=9))) == []
    assert alarm(Past(succeeded=slot - timedelta(days=1))) == [slot]
    assert alarm(Past(succeeded=slot - timedelta(hours=23)), now=slot + timedelta(hours=11)) == []
    assert alarm(Past(), awake=late - timedelta(minutes=59)) == [], "just opened: it may still be made up for"
    assert alarm(Past(), awake=late - timedelta(minutes=61)) == [slot]
    still = alarm(Past(succeeded=slot - timedelta(days=3)), now=slot + timedelta(days=1, hours=1))
    assert still == [slot], "the alarm stays until it is made, also when the next one is due"


@settings(max_examples=60)
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    minutes=st.lists(st.integers(0, 1439), min_size=1, max_size=5, unique=True),
    days=st.sets(st.sampled_from(["mon", "fri", "1", "15", "31"]), max_size=3),
    moment=st.integers(0, 5 * 366 * 1440),
)
def test_latest_and_next_are_the_neighbours(zone: str, minutes: list[int], days: set[str], moment: int) -> None:
    here = ZoneInfo(zone)
    entry = Entry("e", "backup", tuple(time(*divmod(each, 60)) for each in minutes), tuple(days))
    now = START + timedelta(minutes=moment)
    before, after = latest_slot(entry, now, here), next_slot(entry, now, here)
    assert before is not None
    assert after is not None
    assert before <= now < after
    assert next_slot(entry, before, here) == after
    assert latest_slot(entry, after - timedelta(seconds=1), here) == before
