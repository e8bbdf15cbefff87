"""What the page remembers of the shop between runs: what comparisons found, and when a laptop last answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.engine.compare import Comparison
from agent.log import get_logger
from agent.operations.marking import NO_MARKS, Marks
from certs import files
from protocol.requests import TableMark

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a comparison found: ``differing`` rows differ or are on one side only.

    Of these ``newer_here`` were changed later here or are here alone, ``newer_there`` the same over there; of the
    others nobody can tell. ``marks`` tell later whether rows changed since.
    """

    identical: bool
    rows: int
    differing: int
    at: datetime
    newer_here: int = 0
    newer_there: int = 0
    marks: Marks = NO_MARKS

    @classmethod
    def of(cls, found: Comparison, at: datetime, marks: Marks = NO_MARKS) -> Checked:
        """What is worth remembering of a comparison."""
        differing = sum(t.differ + t.only_here + t.only_there for t in found.tables.values())
        return cls(found.identical, found.rows, differing, at, found.newer_here, found.newer_there, marks)

    @property
    def state(self) -> str:
        """``identical``, ``newer-here``, ``newer-there`` or ``both``."""
        if self.identical:
            return "identical"
        if self.newer_here == self.differing:
            return "newer-here"
        return "newer-there" if self.newer_there == self.differing else "both"


class Memory:
    """What is kept between runs, by business and node. A file that cannot be read is as good as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.checked: dict[tuple[str, str], Checked] = {}
        self.seen: dict[str, datetime] = {}
        self.marks: dict[str, TableMark] = {}  # by node, as it was told last
        try:
            kept = json.loads(path.read_text("utf-8"))
            self.seen = {str(node): datetime.fromisoformat(at) for node, at in kept["seen"].items()}
            for each in kept["checked"]:
                self.checked[each["business"], each["node"]] = Checked(
                    bool(each["identical"]),
                    int(each["rows"]),
                    int(each["differing"]),
                    datetime.fromisoformat(each["at"]),
                    int(each.get("newer_here", 0)),
                    int(each.get("newer_there", 0)),
                    Marks(_mark(each.get("mark_here")), _mark(each.get("mark_there"))),
                )
            found = {str(node): _mark(mark) for node, mark in kept.get("marks", {}).items()}
            self.marks = {node: mark for node, mark in found.items() if mark is not None}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("what was seen of the shop is forgotten", reason=str(error))

    def check(self, business_id: str, node_id: str, checked: Checked) -> None:
        self.checked[business_id, node_id] = checked
        self.save()

    def forget(self, business_id: str | None) -> None:
        self.checked = {key: value for key, value in self.checked.items() if business_id not in (None, key[0])}
        self.save()

    def saw(self, node_id: str, at: datetime) -> None:
        self.seen[node_id] = at

    def save(self) -> None:
        listed = [
            {
                "business": business,
                "node": node,
                "identical": each.identical,
                "rows": each.rows,
                "differing": each.differing,
                "at": each.at.isoformat(),
                "newer_here": each.newer_here,
                "newer_there": each.newer_there,
                "mark_here": _plain(each.marks.here),
                "mark_there": _plain(each.marks.there),
            }
            for (business, node), each in self.checked.items()
        ]
        marks = {node: _plain(mark) for node, mark in self.marks.items()}
        kept = {"checked": listed, "seen": {node: at.isoformat() for node, at in self.seen.items()}, "marks": marks}
        try:
            files.replace_private(self._path, json.dumps(kept).encode())
        except OSError as error:
            log.warning("what was seen of the shop is not kept", reason=str(error))


def _plain(mark: TableMark | None) -> list[str] | None:
    return None if mark is None else [mark.epoch, mark.counts]


def _mark(kept: object) -> TableMark | None:
    match kept:
        case [str(epoch), str(counts)]:
            return TableMark(epoch, counts)
    return None
