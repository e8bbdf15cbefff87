"""A bundle from a platform that is a few migrations apart."""

from __future__ import annotations

from typing import Any

import pytest

from agent.engine.restore_errors import SchemaDrift
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]


def table(columns: str) -> str:
    return (
        "CREATE TYPE colour AS ENUM ('RED', 'BLUE');"
        f'CREATE TABLE things (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, {columns});'
    )


def wider_colour(columns: str) -> str:
    return table(columns).replace("'BLUE'", "'BLUE', 'GREEN'")


def rows(*values: str) -> str:
    return "".join(f"INSERT INTO things VALUES ('{place}', 'b1', {value});" for place, value in enumerate(values))


@pytest.mark.parametrize(
    ("theirs", "ours", "values", "expected"),
    [
        pytest.param("a text, extra int", "a text", ("'x', NULL",), None, id="new column without data"),
        pytest.param("a text", "a text, b int NOT NULL DEFAULT 7, c text", ("'x'",), "7", id="defaulted here"),
        pytest.param("a varchar(3)", "a text", ("'abc'",), "abc", id="wider text"),
        pytest.param("a text", "a varchar(3)", ("'äöü'", "NULL"), "äöü", id="narrower text that fits"),
        pytest.param("a integer", "a bigint", ("2147483647",), "2147483647", id="wider integer"),
        pytest.param("a bigint", "a smallint", ("-32768",), "-32768", id="narrower integer that fits"),
        pytest.param("a numeric", "a numeric(6,2)", ("1234.50", "'NaN'"), "1234.50", id="number that fits"),
        pytest.param("a numeric(6,2)", "a numeric(12,4)", ("1234.50",), "1234.5000", id="wider number"),
        pytest.param("a colour", "a colour", ("'RED'",), "RED", id="label that is here"),
        pytest.param("a colour", "a text", ("'RED'",), "RED", id="enum into text"),
        pytest.param("a text", "a colour", ("'BLUE'",), "BLUE", id="text that is a label"),
        pytest.param("a colour[]", "a colour[]", ("'{BLUE,NULL}'",), "{BLUE,NULL}", id="labels in an array"),
        pytest.param(
            "a timestamp",
            "a timestamp(3)",
            ("'2026-01-01 00:00:00.123'",),
            "2026-01-01 00:00:00.123",
            id="milliseconds",
        ),
        pytest.param("a int, b int", "a int, b int GENERATED ALWAYS AS (a * 2) STORED", ("3, 9",), "6", id="computed"),
        pytest.param("a integer", "a text", ("NULL",), None, id="other type without data"),
    ],
)
async def test_what_has_a_place_is_taken(
    laptop: Any, theirs: str, ours: str, values: tuple[str, ...], expected: str | None
) -> None:
    here = await laptop(wider_colour(theirs) + rows(*values))
    there = await laptop(table(ours), node="node-kitchen")
    result = await there.restore(await here.bundle())
    assert result.plan.tables["things"].insert == len(values)
    found = await there.value("SELECT t::text FROM things t WHERE id = '0'")
    assert (expected or "") in found
    assert (await there.restore(await here.bundle())).plan.totals.changes == 0


@pytest.mark.parametrize(
    ("theirs", "ours", "values", "what", "detail", "count"),
    [
        ("a text, extra int", "a text", ("'x', 1", "'y', NULL"), "missing-column", "does not exist here", 1),
        ("a text", "a text, b int NOT NULL", ("'x'", "'y'"), "required-column", "is required here and missing", 2),
        ("a text", "a text NOT NULL", ("'x'", "NULL"), "null", "is required here and empty", 1),
        ("a text", "a varchar(3)", ("'abc'", "'abcd'"), "value", "does not fit into character varying(3)", 1),
        ("a text[]", "a varchar(3)[]", ("'{abc}'", "'{a,abcd}'"), "value", "does not fit into", 1),
        ("a bigint", "a smallint", ("32767", "32768"), "value", "does not fit into smallint", 1),
        ("a numeric", "a integer", ("1.0", "1.5", "'Infinity'"), "value", "does not fit into integer", 2),
        ("a numeric", "a numeric(6,2)", ("9999.99", "10000", "0.001"), "value", "does not fit into numeric(6,2)", 2),
        ("a colour", "a colour", ("'RED'", "'GREEN'"), "value", "has a label that colour does not have here", 1),
        ("a colour[]", "a colour[]", ("'{RED}'", "'{RED,GREEN}'"), "value", "has a label", 1),
        ("a timestamp", "a timestamp(3)", ("'2026-01-01 00:00:00.1234'",), "value", "does not fit into", 1),
        ("a text", "a integer", ("'1'", "NULL"), "value", "is text in the bundle but integer here", 1),
    ],
)
async def test_what_has_no_place_is_refused_by_name_and_count(
    laptop: Any, theirs: str, ours: str, values: tuple[str, ...], what: str, detail: str, count: int
) -> None:
    here = await laptop(wider_colour(theirs) + rows(*values))
    there = await laptop(table(ours), node="node-kitchen")
    before = await there.contents()
    bundle = await here.bundle()
    with pytest.raises(SchemaDrift) as caught:
        await there.plan(bundle)
    (problem,) = caught.value.details
    assert (problem.table, problem.what, problem.rows) == ("things", what, count)
    assert detail in str(problem)
    with pytest.raises(SchemaDrift):
        await there.restore(bundle)
    assert await there.contents() == before


async def test_every_problem_of_every_table_is_listed(laptop: Any) -> None:
    here = await laptop(
        table("a text, b int")
        + rows("'x', 1")
        + 'CREATE TABLE gone (id text PRIMARY KEY, "businessId" text REFERENCES businesses);'
        + "INSERT INTO gone VALUES ('1', 'b1'), ('2', 'b1');"
        + 'CREATE TABLE empty (id text PRIMARY KEY, "businessId" text REFERENCES businesses);'
    )
    there = await laptop(table("a int, c date NOT NULL"), node="node-kitchen")
    with pytest.raises(SchemaDrift) as caught:
        await there.plan(await here.bundle())
    assert [(each.table, each.column, each.what, each.rows) for each in caught.value.details] == [
        ("gone", None, "missing-table", 2),
        ("things", "c", "required-column", 1),
        ("things", "a", "value", 1),
        ("things", "b", "missing-column", 1),
    ]
    assert "gone does not exist here (2 rows)" in str(caught.value)
