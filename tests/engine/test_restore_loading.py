"""Rows that go straight into empty tables: the same plan, rows, undo and schema as by staging and inserting them."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.database.transaction import RowsRefused
from agent.engine import loading
from agent.engine.progress import Step
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.engine.test_undo import Undos
from tests.support.restores import KITCHEN, Laptop
from tests.support.shops import BUSINESSES, laptop, pair

__all__ = ["laptop", "pair"]

_DATA = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text(encoding="utf-8"))
NO_BUSINESSES = BUSINESSES.partition("INSERT")[0]
SHOP = """
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, number text UNIQUE,
    "nextId" text REFERENCES sales DEFERRABLE);
CREATE TABLE lines (id serial PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales ON DELETE CASCADE, body text);
CREATE INDEX ON lines (lower(body)) WHERE body IS NOT NULL;
"""
ROWS = """
INSERT INTO sales SELECT 's' || n, 'b1', n::text, 's' || 1 + n % 40 FROM generate_series(1, 40) n;
INSERT INTO lines ("saleId", body) SELECT 's' || 1 + n % 40, repeat('x', n) FROM generate_series(1, 90) n;
"""
_SHAPE = """
SELECT k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || k.convalidated
       || coalesce(obj_description(k.oid, 'pg_constraint'), '') AS part
FROM pg_constraint k WHERE k.connamespace = 'public'::regnamespace
UNION ALL
SELECT pg_get_indexdef(i.indexrelid) || i.indisclustered || i.indisreplident || i.indisvalid
       || coalesce(obj_description(i.indexrelid, 'pg_class'), '')
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT a.attrelid::regclass || '.' || a.attname || a.attnotnull
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
UNION ALL
SELECT t.tgrelid::regclass || ' ' || t.tgtype || t.tgenabled::text || t.tgfoid::regproc || count(*)
FROM pg_trigger t GROUP BY t.tgrelid, t.tgtype, t.tgenabled, t.tgfoid
ORDER BY 1
"""


def load_from(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Load from so many rows on, however they are spread."""
    monkeypatch.setattr(loading, "LEAST_ROWS", rows)
    monkeypatch.setattr(loading, "LEAST_OF_TABLE", 1)
    monkeypatch.setattr(loading, "LEAST_SHARE", 0)
    monkeypatch.setattr(loading, "LEAST_GOING", 1)


async def shape(laptop: Laptop) -> list[str]:
    """All that is declared about the tables."""
    return [row["part"] for row in await laptop.fetch(_SHAPE)]


class Seen:
    """Whether a restore took tables apart."""

    def __init__(self) -> None:
        self.stages: set[str] = set()

    def __call__(self, step: Step) -> None:
        self.stages.add(step.stage)

    @property
    def loaded(self) -> bool:
        return "building indexes" in self.stages


async def both_ways(
    monkeypatch: pytest.MonkeyPatch,
    source: Laptop,
    staged: Laptop,
    loaded: Laptop,
    folder: Path,
    *,
    undone: bool = True,
) -> Seen:
    """Restore a full backup into two equal databases, by each way; everything about them must be equal then."""
    bundle = await source.bundle(Kind.FULL, include_demo=True)
    before, declared = await staged.contents(), await shape(staged)
    monkeypatch.setattr(loading, "LEAST_ROWS", 1 << 60)
    by_staging = await staged.restore(bundle)
    load_from(monkeypatch, 1)
    seen, undos = Seen(), Undos(loaded, folder)
    plan = await loaded.plan(bundle)
    by_loading = await loaded.restore(bundle, expected=plan.digest, keeper=undos.keeper, progress=seen)
    assert by_loading.plan == by_staging.plan == plan
    assert by_loading.sequences == by_staging.sequences
    after = [await each.contents() for each in (loaded, staged)]
    for contents in after:
        contents.pop("sync_nodes", None)  # placeholders are dated now
    assert after[0] == after[1] != before
    assert await shape(loaded) == declared
    if undone:
        await undos.undo(await undos.bundle(), progress=seen)
        assert await loaded.contents() == before
        assert await shape(loaded) == declared
    return seen


async def test_every_table_of_the_platform(
    database: MakeDatabase, everything_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another laptop's bundle: references to its devices are cleared, or get placeholders, in loaded rows too."""
    source = Laptop(everything_database, tmp_path)
    staged, loaded = [Laptop(await database("platform"), tmp_path, KITCHEN) for _ in range(2)]
    seen = await both_ways(monkeypatch, source, staged, loaded, tmp_path)
    assert seen.loaded
    assert "checking references" in seen.stages


async def test_an_undo_of_many_rows_waits_for_nobody(
    laptop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = await laptop(SHOP + ROWS), await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    before, declared = await target.contents(), await shape(target)
    load_from(monkeypatch, 1)
    undos, seen = Undos(target, tmp_path), Seen()
    await target.restore(await source.bundle(Kind.FULL), keeper=undos.keeper)
    async with target.database.connect(admin=True) as other:
        await other.execute("BEGIN; SELECT count(*) FROM lines")
        await undos.undo(await undos.bundle(), progress=seen)
        assert "checking references" not in seen.stages
        await other.execute("ROLLBACK")
    assert await target.contents() == before
    assert await shape(target) == declared


@pytest.mark.parametrize("name", sorted({case["schema"] for case in _DATA["case"]}))
async def test_the_schemas_of_the_scenarios(
    laptop: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = max((case for case in _DATA["case"] if case["schema"] == name), key=lambda case: len(case.get("here", "")))
    made, tables = _DATA["schemas"][name], _DATA["schemas"].get(case.get("tables"))
    source = await laptop(made + case.get("here", ""), tables=tables)
    staged, loaded = [await laptop(made, node=KITCHEN, tables=tables, businesses=NO_BUSINESSES) for _ in range(2)]
    seen = await both_ways(monkeypatch, source, staged, loaded, tmp_path, undone=name != "triggered")
    assert seen.loaded is (name != "triggered")


ODD = [
    "COMMENT ON CONSTRAINT \"sales_businessId_fkey\" ON sales IS 'why'",
    "COMMENT ON INDEX sales_number_key IS 'why'",
    "ALTER TABLE sales REPLICA IDENTITY USING INDEX sales_pkey",
    "ALTER TABLE lines CLUSTER ON lines_pkey",
    "CREATE VIEW shown AS SELECT s.id, s.number, count(*) FROM sales s GROUP BY s.id",
    'ALTER TABLE lines ADD FOREIGN KEY ("body") REFERENCES sales (number) NOT VALID',
    "CREATE TABLE later () INHERITS (sales)",
    "ALTER TABLE lines ADD EXCLUDE USING btree (id WITH =)",
    "CREATE RULE quiet AS ON DELETE TO lines DO ALSO NOTHING",
]


@pytest.mark.parametrize("odd", ODD)
async def test_what_no_definition_holds_stays(
    laptop: Any, odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await laptop(SHOP + ROWS)
    if "NOT VALID" in odd:
        await source.execute("UPDATE lines SET body = '7'")
    staged, loaded = [await laptop(SHOP + odd, node=KITCHEN, businesses=NO_BUSINESSES) for _ in range(2)]
    await source.execute(odd)
    await both_ways(monkeypatch, source, staged, loaded, tmp_path)


@pytest.mark.parametrize("why", ["not the owner", "somebody reads", "published", "rows are there"])
async def test_where_it_cannot_be_the_rows_are_staged(laptop: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = await laptop(SHOP + ROWS), await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    bundle = await source.bundle(Kind.FULL)
    load_from(monkeypatch, 100)
    monkeypatch.setattr(loading, "_PATIENCE_SECONDS", 0.1)
    seen = Seen()
    async with target.database.connect(admin=True) as other:
        if why == "not the owner":
            for name in ("businesses", "sales", "lines"):
                await other.execute(f"ALTER TABLE {name} OWNER TO CURRENT_USER; GRANT ALL ON {name} TO PUBLIC")
            await other.execute("GRANT ALL ON SEQUENCE lines_id_seq TO PUBLIC")
        elif why == "published":
            await target.execute("CREATE PUBLICATION news FOR TABLE lines")
        elif why == "somebody reads":
            await other.execute("BEGIN; SELECT count(*) FROM lines")
        else:
            await other.execute(
                "INSERT INTO businesses VALUES ('b1', 'Old'); INSERT INTO sales VALUES ('old', 'b1', '0')"
            )
            await other.execute("INSERT INTO lines VALUES (0, 'old', 'old')")
        await target.restore(bundle, progress=seen)
        assert not seen.loaded
        assert await target.value("SELECT count(*) FROM lines WHERE id > 0") == 90


async def test_an_id_that_changes_makes_it_begin_anew(laptop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is here under another id takes the bundle's: rows that refer to him are staged after all."""
    users = """
    CREATE TABLE users (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email text UNIQUE);
    CREATE TABLE business_orders (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses,
        "takenBy" integer REFERENCES users ON UPDATE CASCADE);
    """
    orders = "INSERT INTO business_orders SELECT n::text, 'b1', 1 + n % 2 FROM generate_series(1, 50) n;"
    source = await laptop(users + "INSERT INTO users VALUES (1, 'ann@x'), (2, 'bob@x');" + orders)
    target = await laptop(users + "INSERT INTO users VALUES (1, 'bob@x')", node=KITCHEN, businesses=NO_BUSINESSES)
    load_from(monkeypatch, 1)
    transactions: list[str] = []

    async def started(transaction: str) -> None:
        transactions.append(transaction)

    result = await target.restore(await source.bundle(Kind.FULL), started=started)
    assert result.plan.totals.reidentified == 1
    assert len(set(transactions)) == 2
    taken = 'SELECT count(*) FROM business_orders o JOIN users u ON u.id = o."takenBy" WHERE u.email = '
    assert [await target.value(taken + name) for name in ("'ann@x'", "'bob@x'")] == [25, 25]


async def test_rows_that_break_a_key_are_refused(laptop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await laptop(SHOP.replace("number text UNIQUE", "number text") + ROWS)
    await source.execute("UPDATE sales SET number = '1'; ALTER TABLE sales ADD UNIQUE (id, number)")
    target = await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    monkeypatch.setattr("agent.tables.schema.Schema.fingerprint", lambda self: "0" * 64)
    bundle = await source.bundle(Kind.FULL)
    before, declared = await target.contents(), await shape(target)
    load_from(monkeypatch, 1)
    seen = Seen()
    with pytest.raises(RowsRefused, match="sales"):
        await target.restore(bundle, progress=seen)
    assert seen.loaded
    assert await target.contents() == before
    assert await shape(target) == declared


async def test_others_wait_and_see_nothing_half_done(laptop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = await laptop(SHOP + ROWS), await laptop(SHOP, node=KITCHEN, businesses=NO_BUSINESSES)
    bundle = await source.bundle(Kind.FULL)
    load_from(monkeypatch, 1)
    asked: list[asyncio.Task[Any]] = []

    def progress(step: Step) -> None:
        if step.stage == "building indexes" and not asked:
            asked.append(asyncio.create_task(target.value("SELECT count(*) FROM lines")))

    await target.restore(bundle, progress=progress)
    assert await asked[0] == 90
