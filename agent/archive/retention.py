"""Which backups stay and which go, and why. Pure: facts in, verdicts out.

The rules, in the plan's words where it has them:

- Backups compete within their group alone: one kind, one business, one source device. Nobody's bundles can push out
  another device's.
- Of each day, week and month (in the laptop's zone) the newest whole backup counts, and the newest N such periods are
  kept. Only periods that have backups count, so a laptop that was closed for two months loses nothing.
- Time is the bundle's signed creation time. One that came more than six hours after it or one hour before it (kept for
  later, history rebuilt, or dated by a wrong clock or a forger) competes only with others of that sort.
- One dated in the future is kept and counts for nothing until its time has come.
- Backups that follow the others of their group after more than ``LEAP`` (a clock that jumped, or a long absence: nobody
  can tell) push none of them out until they reach over ``SETTLED``: till then both compete only among themselves.
- Never removed: the newest of a group, its last verified one, a pinned one, one in use, an undo bundle.
- A damaged one fills no period, and is kept until a later one of its group is verified.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

PROMPT = timedelta(hours=6)
CLOCK_TOLERANCE = timedelta(hours=1)
LEAP = timedelta(days=90)
SETTLED = timedelta(days=30)
UNDO = "undo"
_RULE = re.compile(r"(?:(?P<daily>\d{1,4})d)?\s*(?:(?P<weekly>\d{1,4})w)?\s*(?:(?P<monthly>\d{1,4})m)?")


@dataclass(frozen=True, slots=True)
class Rule:
    """How many days, weeks and months with backups are kept."""

    daily: int
    weekly: int
    monthly: int

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule written as ``7d 4w 12m``; parts may be left out. Raises ``ValueError`` with a sentence."""
        match = _RULE.fullmatch(text.strip())
        if match is None or not any(match.groups()):
            raise ValueError(f"{text!r} is not a rule such as '7d 4w 12m'")
        return cls(*(int(match[part] or 0) for part in ("daily", "weekly", "monthly")))

    def __str__(self) -> str:
        return f"{self.daily} daily, {self.weekly} weekly, {self.monthly} monthly"


DEFAULT_RULES: Mapping[str, Rule] = {
    "full": Rule(7, 4, 12),
    "business-specific": Rule(30, 12, 0),
    "full-device": Rule(3, 2, 0),
}
"""The plan's policy, by kind of bundle."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What is known of one bundle in the archive.

    ``created`` is the signed time, ``recorded`` when this laptop first noted it (both aware); ``verified``: the file
    held when last looked at; ``in_use`` says by what, "" where by nothing.
    """

    id: str
    kind: str
    business_id: str | None
    source_node: str
    created: datetime
    recorded: datetime
    verified: bool = False
    damaged: bool = False
    pinned: bool = False
    in_use: str = ""
    origin: str = "made"

    @property
    def group(self) -> tuple[str, str, str]:
        """Kind, business ("" for none) and source device."""
        return self.kind, self.business_id or "", self.source_node

    @property
    def prompt(self) -> bool:
        """Whether it was noted about when it says that it was made."""
        return -CLOCK_TOLERANCE <= self.recorded - self.created <= PROMPT


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one bundle, and every reason for it."""

    copy: Copy
    keep: bool
    reasons: tuple[str, ...]


@dataclass(slots=True)
class _Lane:
    """Copies that compete with each other, newest first, and what was found out about them."""

    copies: list[Copy]
    keep: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    remove: dict[str, str] = field(default_factory=dict)


def decide(
    copies: Iterable[Copy], *, now: datetime, zone: tzinfo, rules: Mapping[str, Rule] = DEFAULT_RULES
) -> tuple[Verdict, ...]:
    """The verdict on every copy, newest first. A kind without a rule is kept whole."""
    lanes: dict[tuple[tuple[str, str, str], bool], list[Copy]] = defaultdict(list)
    verdicts: list[Verdict] = []
    for copy in copies:
        if copy.origin == UNDO:
            verdicts.append(Verdict(copy, True, ("the way back from a restore",)))
        elif copy.created > now + CLOCK_TOLERANCE:
            why = f"dated {copy.created.astimezone(zone):%Y-%m-%d}, which is still to come: it does not count yet"
            verdicts.append(Verdict(copy, True, (*_always(copy), why)))
        elif copy.kind not in rules:
            verdicts.append(Verdict(copy, True, (f"no rule for bundles of kind {copy.kind}",)))
        else:
            lanes[copy.group, copy.prompt].append(copy)
    for (group, _), members in lanes.items():
        for lane in _split(members):
            verdicts += _judge(lane, rules[group[0]], zone)
    return tuple(sorted(verdicts, key=lambda verdict: (verdict.copy.created, verdict.copy.id), reverse=True))


def _split(members: Sequence[Copy]) -> tuple[Sequence[Copy], ...]:
    """The members, or those before and those after a leap that is not settled yet."""
    ordered = sorted(members, key=lambda copy: copy.created)
    newest = ordered[-1].created
    for place in range(len(ordered) - 1, 0, -1):
        first = ordered[place].created
        if newest - first >= SETTLED:
            break
        if first - ordered[place - 1].created > LEAP:
            return ordered[:place], ordered[place:]
    return (ordered,)


def _judge(members: Sequence[Copy], rule: Rule, zone: tzinfo) -> list[Verdict]:
    lane = _Lane(sorted(members, key=lambda copy: (copy.created, copy.id), reverse=True))
    whole = [copy for copy in lane.copies if not copy.damaged]
    verified = next((copy for copy in whole if copy.verified), None)
    for copy in lane.copies:
        lane.keep[copy.id] += _always(copy)
        if copy.damaged and (verified is None or verified.created < copy.created):
            lane.keep[copy.id].append("damaged, but no later one of its group is verified")
    if whole:
        lane.keep[whole[0].id].append("the newest")
    if verified is not None:
        lane.keep[verified.id].append("the last verified one")
    for word, most, period in (
        ("daily", rule.daily, _day),
        ("weekly", rule.weekly, _week),
        ("monthly", rule.monthly, _month),
    ):
        _fill(lane, whole, word, most, lambda copy, period=period: period(copy, zone))  # type: ignore[misc]
    past = f"past the {rule}"
    return [
        Verdict(copy, True, tuple(lane.keep[copy.id]))
        if lane.keep[copy.id]
        else Verdict(copy, False, ("damaged" if copy.damaged else lane.remove.get(copy.id, past),))
        for copy in lane.copies
    ]


def _fill(lane: _Lane, whole: Sequence[Copy], word: str, most: int, period: Callable[[Copy], str]) -> None:
    """Keep the newest of each of the newest ``most`` periods; note for the others of those periods that it is."""
    best: dict[str, Copy] = {}
    for copy in whole:
        name = period(copy)
        if name in best:
            lane.remove.setdefault(copy.id, f"a later one of {name} is kept")
        elif len(best) < most:
            best[name] = copy
            lane.keep[copy.id].append(f"{word} {len(best)} of {most} ({name})")


def _always(copy: Copy) -> list[str]:
    return [*(["pinned"] if copy.pinned else []), *([f"in use: {copy.in_use}"] if copy.in_use else [])]


def _day(copy: Copy, zone: tzinfo) -> str:
    return f"{copy.created.astimezone(zone):%Y-%m-%d}"


def _week(copy: Copy, zone: tzinfo) -> str:
    year, week, _ = copy.created.astimezone(zone).isocalendar()
    return f"{year}-W{week:02}"


def _month(copy: Copy, zone: tzinfo) -> str:
    return f"{copy.created.astimezone(zone):%Y-%m}"
