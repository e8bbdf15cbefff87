"""Random rows of every type through backup and restore, onto an empty table and onto one that holds other rows."""

from __future__ import annotations

import json
import string
from decimal import Context, Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.engine.compare import compare
from agent.engine.compare_sides import live_side
from agent.tables.catalogue import load_catalogue
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Conflicts, Laptop
from tests.support.shops import BUSINESSES

AWKWARD = ["", "\\N", "\\.", "\t", "\n", "\r\n", "\\", "a\tb\nc\\d", "NULL", " ", "{}", '"', "'", "日本 🧾", "\x01\x7f"]

texts = st.sampled_from(AWKWARD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)

pytestmark = pytest.mark.every_server


def _numeric(precision: int, scale: int) -> st.SearchStrategy[str]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda number: str(Decimal(number).scaleb(-scale, Context(prec=precision))))


def _digits() -> st.SearchStrategy[str]:
    number = st.text(string.digits, min_size=1, max_size=38)
    return st.tuples(st.sampled_from(["", "-"]), number, number).map(lambda parts: f"{parts[0]}{parts[1]}.{parts[2]}")


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).map(lambda value: json.dumps(value, ensure_ascii=False).replace("\\u0000", ""))

_dates = st.dates().map(str) | st.sampled_from(["infinity", "-infinity", "4713-01-01 BC"])
_moments = st.datetimes().map(lambda at: at.isoformat(sep=" ")) | st.sampled_from(["infinity", "-infinity"])

VALUES: dict[str, st.SearchStrategy[str]] = {
    "text": texts,
    "character varying(30)": texts.map(lambda text: text[:30]),
    "character(5)": st.text(string.ascii_letters, max_size=5),
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": _digits() | st.sampled_from(["NaN", "0.00", "-0.0", "1e-20"]),
    "numeric(38,12)": _numeric(38, 12) | st.just("NaN"),
    "double precision": st.floats().map(repr),
    "real": st.floats(width=32).map(repr),
    "boolean": st.sampled_from(["true", "false"]),
    "timestamp(3) without time zone": _moments,
    "timestamp without time zone": _moments,
    "timestamp with time zone": _moments,
    "date": _dates,
    "time without time zone": st.times().map(str),
    "interval": st.timedeltas().map(lambda delta: f"{delta.days} days {delta.seconds} seconds {delta.microseconds} us"),
    "json": _json_values,
    "jsonb": _json_values,
    "uuid": st.uuids().map(str),
    "bytea": st.binary(max_size=20).map(lambda data: "\\x" + data.hex()),
    "inet": st.ip_addresses().map(str),
    "cidr": st.ip_addresses(v=4).map(lambda address: f"{address}/32"),
    "macaddr": st.integers(0, 2**48 - 1).map(lambda n: f"{n:012x}"),
    "point": st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(str),
    "bit varying(9)": st.text("01", max_size=9),
    '"Weird ""Enum"""': st.sampled_from(["ONE", "two words", "it's", 'say "3"', "tab\t"]),
    "int4range": st.sampled_from(["empty", "[1,5)", "(,7)"]),
    "tsvector": st.just("'a':1 'b':2"),
}


def _array(kind: str) -> st.SearchStrategy[str]:
    def quoted(item: str | None) -> str:
        return "NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'

    flat = st.lists(st.none() | VALUES[kind], max_size=4)
    return flat.map(lambda items: "{" + ",".join(map(quoted, items)) + "}")


ALL = {**VALUES, **{f"{kind}[]": _array(kind) for kind in VALUES}}

Row = dict[str, str | None]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[Row], list[Row]]:
    """Column types, rows of one laptop, rows of the other (some under the same keys)."""
    kinds = draw(st.lists(st.sampled_from(sorted(ALL)), min_size=1, max_size=12))

    def rows() -> list[Row]:
        keys = draw(st.lists(st.integers(0, 12), unique=True, max_size=8))
        return [
            {"id": str(key), **{f"c{place}": draw(st.none() | ALL[kind]) for place, kind in enumerate(kinds)}}
            for key in keys
        ]

    return kinds, rows(), rows()


ENUM = 'CREATE TYPE "Weird ""Enum""" AS ENUM (' + "'ONE', 'two words', 'it''s', 'say \"3\"', E'tab\\t');"


async def _laptop(made: MakeDatabase, folder: Path, node: str, kinds: list[str], rows: list[Row]) -> Laptop:
    laptop = Laptop(await made(), folder, node, load_catalogue())
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(kinds))
    await laptop.execute(
        f"{BUSINESSES}{ENUM}CREATE TABLE things "
        f"(id integer PRIMARY KEY, \"businessId\" text NOT NULL DEFAULT 'b1' REFERENCES businesses, {columns});"
        f"CREATE TABLE keyless (\"businessId\" text NOT NULL DEFAULT 'b1' REFERENCES businesses, {columns});"
    )
    async with laptop.database.connect() as connection:
        for row in rows:
            values = ", ".join(f"${place + 2}::text::{kind}" for place, kind in enumerate(kinds))
            given_values = list(row.values())
            await connection.execute(
                f"INSERT INTO things (id, {_names(kinds)}) VALUES ($1::text::integer, {values})", *given_values
            )
            values = ", ".join(f"${place + 1}::text::{kind}" for place, kind in enumerate(kinds))
            for _ in range(int(str(row["id"])) % 3):
                await connection.execute(f"INSERT INTO keyless ({_names(kinds)}) VALUES ({values})", *given_values[1:])
    return laptop


def _names(kinds: list[str]) -> str:
    return ", ".join(f"c{place}" for place, _ in enumerate(kinds))


@settings(max_examples=12, suppress_health_check=[*HealthCheck])
@given(drawn=tables())
async def test_rows_of_every_type_come_back_equal_and_merge(
    database: MakeDatabase, tmp_path: Path, drawn: tuple[list[str], list[Row], list[Row]]
) -> None:
    kinds, theirs, ours = drawn
    here = await _laptop(database, tmp_path, OFFICE, kinds, theirs)
    empty = await _laptop(database, tmp_path, KITCHEN, kinds, [])
    there = await _laptop(database, tmp_path, KITCHEN, kinds, ours)
    bundle = await here.bundle(Kind.BUSINESS, "b1")

    await empty.restore(bundle)
    assert await empty.contents() == await here.contents()
    async with (
        live_side(here.database.dsn, here.catalogue, "b1") as one,
        live_side(empty.database.dsn, empty.catalogue, "b1") as other,
    ):
        assert (await compare(one, other)).identical

    plan = await there.plan(bundle, conflicts=Conflicts.BUNDLE)
    result = await there.restore(bundle, conflicts=Conflicts.BUNDLE, expected=plan.digest)
    mine = {row["id"] for row in ours}
    things = result.plan.tables.get("things")
    assert (things.insert if things else 0) == sum(row["id"] not in mine for row in theirs)
    again = await there.plan(bundle)
    assert again.totals.changes == 0
    taken = {row["row"] for row in await there.fetch("SELECT t::text AS row FROM things t")}
    wanted = {row["row"] for row in await here.fetch("SELECT t::text AS row FROM things t")}
    assert wanted <= taken
    assert len(taken) == len(mine | {row["id"] for row in theirs})


async def test_a_null_is_not_an_empty_value(database: MakeDatabase, tmp_path: Path) -> None:
    kinds = sorted(ALL)
    nothing: Row = {"id": "1", **{f"c{place}": None for place, _ in enumerate(kinds)}}
    here = await _laptop(database, tmp_path, OFFICE, kinds, [nothing])
    there = await _laptop(database, tmp_path, KITCHEN, kinds, [])
    await there.restore(await here.bundle())
    assert await there.value(f"SELECT num_nulls({_names(kinds)}) FROM things") == len(kinds)
