"""What a plan shows beside its numbers: single rows, secrets masked, and clocks that run ahead."""

from __future__ import annotations

from typing import Any

from agent.database.merge import Conflicts
from agent.engine.examples import MASK
from agent.engine.plan import ColumnExample, RowExample
from protocol.manifest import Kind
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]

STAFF = """
CREATE TABLE staff (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id), name text, "passwordHash" text,
    "updatedAt" timestamp(3)
);
"""
HERE = """
INSERT INTO staff VALUES ('s1', 'b1', 'Rudo', 'new-secret', '2026-02-01'), ('s2', 'b1', NULL, 'x', '2026-02-01'),
    ('s3', 'b1', 'Tari', 'y', '2025-01-01'), ('s4', 'b1', 'same', 'z', '2026-01-01');
"""
THERE = """
INSERT INTO staff VALUES ('s1', 'b1', 'Rudo B', 'old-secret', '2026-01-01'), ('s3', 'b1', 'Tari M', 'y', '2026-01-01'),
    ('s4', 'b1', 'same', 'z', '2026-01-01');
"""


async def test_rows_of_a_table_with_both_values_and_no_secret(pair: Any) -> None:
    first, second = await pair(STAFF, HERE, THERE)
    bundle = await first.bundle(Kind.BUSINESS, "b1")
    plan = await second.plan(bundle, conflicts=Conflicts.NEWER, show=["staff"])
    assert [(row.what, row.key) for row in plan.examples["staff"]] == [
        ("insert", "(s2)"),
        ("update", "(s1)"),
        ("kept", "(s3)"),
    ]
    changed = plan.examples["staff"][1]
    assert changed == RowExample(
        "update",
        "(s1)",
        (
            ColumnExample("updatedAt", "2026-02-01 00:00:00", "2026-01-01 00:00:00"),
            ColumnExample("name", "Rudo", "Rudo B"),
            ColumnExample("passwordHash", MASK, MASK),
        ),
    )
    assert "secret" not in str(plan.as_dict())
    quiet = await second.plan(bundle, conflicts=Conflicts.NEWER)
    assert (quiet.examples, quiet.digest) == ({}, plan.digest)


async def test_rows_dated_ahead_of_this_clock_are_named(pair: Any) -> None:
    first, second = await pair(
        STAFF, "INSERT INTO staff VALUES ('s1', 'b1', 'Rudo', 'h', now() AT TIME ZONE 'UTC' + interval '2 hours');"
    )
    plan = await second.plan(await first.bundle(Kind.BUSINESS, "b1"))
    assert any("ahead of this laptop's clock (1 in staff)" in warning for warning in plan.warnings)
