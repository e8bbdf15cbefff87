"""What may have changed since a comparison: told by marks, never the less by what nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.operations.glance_memory import Checked, Memory
from agent.operations.marking import Marks, since
from agent.operations.workspace import utc_now
from protocol.requests import TableMark

THEN, LATER = TableMark("e", "1"), TableMark("e", "2")
OTHER, NOBODY = TableMark("f", "1"), TableMark("", "")


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (Marks(THEN, THEN), Marks(THEN, THEN), ""),
        (Marks(THEN, THEN), Marks(LATER, THEN), "here"),
        (Marks(THEN, THEN), Marks(THEN, LATER), "there"),
        (Marks(THEN, THEN), Marks(LATER, LATER), "both"),
        (Marks(THEN, THEN), Marks(OTHER, THEN), "unknown"),
        (Marks(THEN, THEN), Marks(THEN, OTHER), "unknown"),
        (Marks(THEN, THEN), Marks(OTHER, LATER), "there"),
        (Marks(THEN, THEN), Marks(NOBODY, THEN), "unknown"),
        (Marks(NOBODY, THEN), Marks(NOBODY, THEN), "unknown"),
        (Marks(THEN, None), Marks(THEN, None), ""),  # the other side's Backroom is older
        (Marks(THEN, THEN), Marks(THEN, None), ""),  # it has not answered since
        (Marks(None, None), Marks(THEN, THEN), "unknown"),  # remembered by an older Backroom here
        (Marks(THEN, THEN), Marks(None, THEN), "unknown"),  # the database here is away
    ],
)
def test_what_may_have_changed(then: Marks, now: Marks, said: str) -> None:
    assert since(then, now) == said


def test_marks_are_remembered_and_what_older_versions_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    memory = Memory(path)
    memory.marks["node"] = LATER
    memory.check("abc", "node", Checked(True, 5, 0, utc_now(), marks=Marks(THEN, None)))
    again = Memory(path)
    assert (again.marks, again.checked["abc", "node"].marks) == ({"node": LATER}, Marks(THEN, None))
    path.write_text(
        '{"checked": [{"business": "abc", "node": "n", "identical": true, "rows": 5, "differing": 0,'
        ' "at": "2026-11-01T10:00:00+00:00"}], "seen": {}}'
    )
    older = Memory(path)
    assert since(older.checked["abc", "n"].marks, Marks(THEN, THEN)) == "unknown"
