"""What a plan shows on request: single rows with both values, secrets masked, and clocks that run ahead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from agent.database.examples import count_ahead, pairs
from agent.database.merge import Verdict
from agent.engine.apply_work import Work
from agent.engine.plan import ColumnExample, RowExample

MOST = 5
"""Rows shown for each table and verdict."""
MASK = "•••"
_SHOWN = (Verdict.INSERT, Verdict.UPDATE, Verdict.UNDATED, Verdict.KEPT)
_AHEAD_MINUTES = 10
_SECRET = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|hash|salt|pin$|api_?key|private_?key|credential|access_?key)"
)
_LONG = 120


def masked(column: str, value: str | None) -> str | None:
    """The value, or a mask where the column's name says that it is a secret; long values are cut."""
    if value is None:
        return None
    if _SECRET.search(column):
        return MASK
    return value if len(value) <= _LONG else value[: _LONG - 1] + "…"


async def examples(work: Work, tables: Sequence[str]) -> Mapping[str, tuple[RowExample, ...]]:
    """Some rows of each verdict, of the tables asked for."""
    found: dict[str, tuple[RowExample, ...]] = {}
    for merge in work.merges:
        name = merge.stage.table.name
        if name not in tables:
            continue
        for verdict in _SHOWN:
            rows = await pairs(work.connection, merge, verdict, MOST)
            found[name] = (
                *found.get(name, ()),
                *(
                    RowExample(
                        str(pair.verdict),
                        pair.key,
                        tuple(ColumnExample(c, masked(c, theirs), masked(c, ours)) for c, theirs, ours in pair.columns),
                    )
                    for pair in rows
                ),
            )
    return found


async def clock_warnings(work: Work) -> tuple[str, ...]:
    """Rows dated ahead of this laptop's clock: they win over everything until that time comes."""
    work.ahead = await count_ahead(work.connection, work.merges, _AHEAD_MINUTES)
    if not work.ahead:
        return ()
    listed = ", ".join(f"{rows} in {name}" for name, rows in sorted(work.ahead.items()))
    return (
        f"Rows of the bundle are dated more than {_AHEAD_MINUTES} minutes ahead of this laptop's clock ({listed}). "
        "One of the two clocks is wrong; until then these rows win as the newer ones.",
    )
