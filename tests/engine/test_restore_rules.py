"""What becomes of single rows: conflicts, cycles, keys, device references, stubs. On small schemas of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from agent.database import exclusive
from agent.database.errors import LockTimeout
from agent.database.exclusive import RestoreRunning
from agent.database.merge import Conflicts
from agent.database.transaction import RowsRefused
from agent.engine.bundle_file import VerifiedBundle
from agent.engine.plan import TableCounts
from agent.engine.restore_errors import (
    BundleChanged,
    CountsDiffer,
    DeviceTableRefused,
    DuplicateRows,
    MissingReferences,
    PlanChanged,
)
from protocol.errors import BundleError
from protocol.frames import EncodedFrame
from protocol.manifest import Kind, Manifest, Section
from tests.support.restores import KITCHEN
from tests.support.shops import laptop, pair

__all__ = ["laptop", "pair"]

pytestmark = pytest.mark.every_server

PRODUCTS = """
CREATE TABLE products (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id), sku text, price numeric(12,2),
    "updatedAt" timestamp(3), UNIQUE ("businessId", sku)
);
"""


def row(identifier: str, sku: str | None, price: str, at: str | None, business: str = "b1") -> str:
    def text(value: str | None) -> str:
        return "NULL" if value is None else f"'{value}'"

    return f"INSERT INTO products VALUES ('{identifier}', '{business}', {text(sku)}, {price}, {text(at)});"


OLD, NEW = "2026-01-01", "2026-02-01"


@pytest.mark.parametrize(
    ("policy", "theirs", "ours", "wins", "counts"),
    [
        (Conflicts.NEWER, NEW, OLD, "theirs", TableCounts(update=1)),
        (Conflicts.NEWER, OLD, NEW, "ours", TableCounts(kept=1)),
        (Conflicts.NEWER, None, NEW, "theirs", TableCounts(update=1, undated=1)),
        (Conflicts.NEWER, OLD, None, "theirs", TableCounts(update=1, undated=1)),
        (Conflicts.BUNDLE, OLD, NEW, "theirs", TableCounts(update=1)),
        (Conflicts.LOCAL, NEW, OLD, "ours", TableCounts(kept=1)),
    ],
)
async def test_which_row_wins(
    pair: Any, policy: Conflicts, theirs: str | None, ours: str | None, wins: str, counts: TableCounts
) -> None:
    here, there = await pair(PRODUCTS, row("p", "a", "1", theirs), row("p", "a", "2", ours))
    result = await there.restore(await here.bundle(), conflicts=policy)
    assert result.plan.tables["products"] == counts
    assert await there.value("SELECT price FROM products") == (1 if wins == "theirs" else 2)
    assert bool(result.plan.warnings) == bool(counts.undated)


async def test_equal_times_with_different_content_settle_on_one_row_whoever_pushes(pair: Any) -> None:
    for first in (True, False):
        here, there = await pair(PRODUCTS, row("p", "a", "1", OLD), row("p", "a", "2", OLD))
        for source, target in ((here, there), (there, here)) if first else ((there, here), (here, there)):
            await target.restore(await source.bundle(), conflicts=Conflicts.NEWER)
        assert await here.contents() == await there.contents()
        settled = await here.value("SELECT price FROM products")
        if first:
            expected = settled
    assert settled == expected


async def test_the_scale_of_a_number_counts_and_equal_rows_are_not_written(pair: Any) -> None:
    here, there = await pair(
        'CREATE TABLE notes (id text PRIMARY KEY, "businessId" text REFERENCES businesses, n numeric, j json);',
        "INSERT INTO notes VALUES ('1', 'b1', 1.50, '{\"a\": 1}'), ('2', 'b1', 2, NULL);",
        "INSERT INTO notes VALUES ('1', 'b1', 1.5, '{\"a\": 1}'), ('2', 'b1', 2, NULL);",
    )
    before = await there.value("SELECT xmin::text FROM notes WHERE id = '2'")
    result = await there.restore(await here.bundle())
    assert result.plan.tables["notes"] == TableCounts(update=1, unchanged=1)
    assert await there.value("SELECT n::text FROM notes WHERE id = '1'") == "1.50"
    assert await there.value("SELECT xmin::text FROM notes WHERE id = '2'") == before


CYCLE = """
CREATE TABLE payments (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, "depositId" text NOT NULL
);
CREATE TABLE deposits (id text PRIMARY KEY, "paymentId" text NOT NULL REFERENCES payments);
ALTER TABLE payments ADD FOREIGN KEY ("depositId") REFERENCES deposits;
CREATE TABLE staff (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, boss text NOT NULL REFERENCES staff
);
"""
CYCLE_ROWS = """
WITH p AS (INSERT INTO payments SELECT 'p' || g, 'b1', 'd' || g FROM generate_series(1, 5) g RETURNING 1)
INSERT INTO deposits SELECT 'd' || g, 'p' || (6 - g) FROM generate_series(1, 5) g;
INSERT INTO staff SELECT 's' || g, 'b1', 's' || (g % 5 + 1) FROM generate_series(1, 5) g;
"""


async def test_cycles_of_required_references_go_in(pair: Any) -> None:
    here, there = await pair(CYCLE, CYCLE_ROWS)
    await there.restore(await here.bundle())
    assert await here.contents() == await there.contents()


NUMBERS = """
CREATE TABLE tickets (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "businessId" text NOT NULL REFERENCES businesses, price integer NOT NULL,
    double integer GENERATED ALWAYS AS (price * 2) STORED
);
CREATE TABLE slips (number serial PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses);
CREATE SEQUENCE loose;
CREATE TABLE "Odd ""Name" (number bigint PRIMARY KEY DEFAULT nextval('loose'), "businessId" text REFERENCES businesses);
"""


async def test_numbers_given_by_the_database_travel_and_sequences_never_go_back(pair: Any) -> None:
    here, there = await pair(
        NUMBERS,
        """
        INSERT INTO tickets ("businessId", price) SELECT 'b1', g FROM generate_series(1, 5) g;
        INSERT INTO slips ("businessId") SELECT 'b1' FROM generate_series(1, 3) g;
        INSERT INTO "Odd ""Name" ("businessId") SELECT 'b1' FROM generate_series(1, 4) g;
        """,
        "SELECT setval('slips_number_seq', 100);",
    )
    await there.restore(await here.bundle())
    assert await here.contents() == await there.contents()
    assert await there.value("INSERT INTO tickets (\"businessId\", price) VALUES ('b1', 1) RETURNING number") == 6
    assert await there.value("INSERT INTO slips (\"businessId\") VALUES ('b1') RETURNING number") == 101
    assert await there.value('INSERT INTO "Odd ""Name" DEFAULT VALUES RETURNING number') == 5


async def test_rows_without_any_identity_are_counted_not_matched(pair: Any) -> None:
    here, there = await pair(
        'CREATE TABLE lines ("businessId" text NOT NULL REFERENCES businesses, what text, n integer);',
        "INSERT INTO lines VALUES ('b1', 'x', NULL), ('b1', 'x', NULL), ('b1', 'x', NULL), ('b1', 'y', 1);",
        "INSERT INTO lines VALUES ('b1', 'x', NULL), ('b1', 'z', 9);",
    )
    result = await there.restore(await here.bundle())
    assert result.plan.tables["lines"] == TableCounts(insert=3, unchanged=1)
    assert await there.value("SELECT count(*) FROM lines") == 5
    assert (await there.restore(await here.bundle())).plan.tables["lines"] == TableCounts(unchanged=4)


DEVICES = """
CREATE TABLE sync_nodes (
    id text PRIMARY KEY, "nodeId" text NOT NULL UNIQUE, "nodeName" text NOT NULL, "isActive" boolean NOT NULL,
    "schemaCompatible" boolean NOT NULL DEFAULT true, secret varchar(10) NOT NULL, seen timestamp(3) NOT NULL,
    load numeric(5,2) NOT NULL, info jsonb NOT NULL, tags text[] NOT NULL
);
CREATE TABLE device_registry (id text PRIMARY KEY, mac text);
CREATE TABLE network_printers (
    id text PRIMARY KEY, "businessId" text REFERENCES businesses,
    "nodeId" text NOT NULL REFERENCES sync_nodes ("nodeId")
);
CREATE TABLE mac_acl_entries (
    id text PRIMARY KEY, "businessId" text REFERENCES businesses, "deviceId" text REFERENCES device_registry, note text
);
"""


async def test_device_rows_stay_and_what_refers_to_them_comes_along(pair: Any) -> None:
    here, there = await pair(
        DEVICES,
        """
        INSERT INTO sync_nodes VALUES ('1', 'office', 'Office', true, true, 'secret', now(), 1, '{}', '{}'),
                                      ('2', 'bar', 'Bar', true, true, 'secret', now(), 1, '{}', '{}');
        INSERT INTO device_registry VALUES ('d1', 'aa'), ('d2', 'bb');
        INSERT INTO network_printers VALUES ('p1', 'b1', 'office'), ('p2', 'b1', 'office'), ('p3', 'b1', 'bar');
        INSERT INTO mac_acl_entries VALUES ('m1', 'b1', 'd1', 'new'), ('m2', 'b1', 'd2', 'new');
        INSERT INTO mac_acl_entries VALUES ('m3', 'b1', 'd1', 'new');
        """,
        """
        INSERT INTO sync_nodes VALUES ('9', 'bar', 'The bar', true, true, 'own', now(), 1, '{}', '{}');
        INSERT INTO device_registry VALUES ('d2', 'bb'), ('mine', 'cc');
        INSERT INTO mac_acl_entries VALUES ('m3', 'b1', 'mine', 'old');
        """,
    )
    result = await there.restore(await here.bundle())
    assert [(item.table, item.rows) for item in result.plan.placeholders] == [("sync_nodes", 1)]
    assert [(item.table, item.columns, item.rows) for item in result.plan.cleared] == [
        ("mac_acl_entries", ("deviceId",), 1)
    ]
    nodes = await there.fetch('SELECT "nodeId", "nodeName", "isActive", secret FROM sync_nodes ORDER BY "nodeId"')
    assert [tuple(node) for node in nodes] == [("bar", "The bar", True, "own"), ("office", "another laptop", False, "")]
    entries = await there.fetch("SELECT * FROM mac_acl_entries ORDER BY id")
    assert [(entry["deviceId"], entry["note"]) for entry in entries] == [(None, "new"), ("d2", "new"), ("mine", "new")]
    assert await there.value("SELECT count(*) FROM network_printers") == 3
    assert (await there.restore(await here.bundle())).plan.totals.changes == 0


async def test_a_stub_never_changes_a_row_that_is_here(pair: Any) -> None:
    schema = """
    ALTER TABLE businesses ADD COLUMN "umbrellaBusinessId" text REFERENCES businesses;
    UPDATE businesses SET "umbrellaBusinessId" = 'b2' WHERE id = 'b1';
    """
    here, there = await pair(schema, "UPDATE businesses SET name = 'changed';")
    result = await there.restore(await here.bundle(Kind.BUSINESS, "b1"))
    assert result.plan.tables["businesses"] == TableCounts(update=1, undated=0, stub=1)
    names = {each["id"]: each["name"] for each in await there.fetch("SELECT id, name FROM businesses")}
    assert names == {"b1": "changed", "b2": "Clothes"}
    await there.execute("DELETE FROM businesses")
    result = await there.restore(await here.bundle(Kind.BUSINESS, "b1"))
    assert result.plan.tables["businesses"] == TableCounts(insert=2)


KEYS = """
CREATE TABLE codes (
    id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses, code text, kind text, active boolean
);
"""


@pytest.mark.parametrize(
    ("key", "theirs", "ours", "collides"),
    [
        ("CREATE UNIQUE INDEX k ON codes (code)", "'x', 'k', true", "'x', 'l', false", True),
        ("CREATE UNIQUE INDEX k ON codes (code)", "NULL, 'k', true", "NULL, 'k', true", False),
        ("CREATE UNIQUE INDEX k ON codes (code, kind)", "'x', 'k', true", "'x', 'l', true", False),
        ("CREATE UNIQUE INDEX k ON codes (lower(code))", "'X', 'k', true", "'x', 'l', false", True),
        ("CREATE UNIQUE INDEX k ON codes (code) WHERE active", "'x', 'k', true", "'x', 'k', true", True),
        ("CREATE UNIQUE INDEX k ON codes (code) WHERE active", "'x', 'k', true", "'x', 'k', false", False),
        (
            "ALTER TABLE codes ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (code)",
            "NULL, 'k', true",
            "NULL, 'l', true",
            True,
        ),
    ],
)
async def test_rows_that_collide_are_listed_and_refused(
    pair: Any, key: str, theirs: str, ours: str, collides: bool
) -> None:
    here, there = await pair(
        KEYS + key + ";",
        f"INSERT INTO codes VALUES ('theirs', 'b1', {theirs});",
        f"INSERT INTO codes VALUES ('ours', 'b1', {ours});",
    )
    bundle = await here.bundle()
    plan = await there.plan(bundle)
    if not collides:
        assert not plan.duplicates
        await there.restore(bundle)
        return
    (duplicate,) = plan.duplicates
    assert (duplicate.table, duplicate.key, duplicate.rows) == ("codes", "k", 1)
    assert duplicate.examples == (("(theirs)", "(ours)"),)
    assert plan.tables["codes"] == TableCounts(insert=1, duplicate=1)
    before = await there.contents()
    with pytest.raises(DuplicateRows, match="codes: 1 with the same") as caught:
        await there.restore(bundle)
    assert caught.value.details == plan.duplicates
    assert await there.contents() == before


async def test_what_our_catalogue_calls_device_is_refused_in_a_business_section(pair: Any) -> None:
    here, there = await pair(
        DEVICES,
        "INSERT INTO device_registry VALUES ('d1', 'aa'); INSERT INTO mac_acl_entries VALUES ('m', 'b1', 'd1');",
    )
    bundle = await here.bundle(Kind.FULL_DEVICE)

    class Disguised:
        """The bundle with its device section declared business, as a foreign or forged writer might."""

        manifest: Manifest = replace(
            bundle.manifest,
            kind=Kind.FULL,
            tables=tuple(replace(entry, section=Section.BUSINESS) for entry in bundle.manifest.tables),
        )

        def frames(self) -> AsyncGenerator[EncodedFrame, None]:
            return bundle.frames()

    before = await there.contents()
    with pytest.raises(DeviceTableRefused, match="device_registry"):
        await there.restore(Disguised())
    assert await there.contents() == before


UNKNOWN = "CREATE TABLE mystery (id text PRIMARY KEY, what text);"


async def test_an_unclassified_table_comes_back_on_its_own_device_alone(pair: Any, laptop: Any) -> None:
    here, there = await pair(UNKNOWN, "INSERT INTO mystery VALUES ('1', 'x');")
    bundle = await here.bundle()
    result = await there.restore(bundle)
    assert [(each.table, each.rows) for each in result.plan.skipped] == [("mystery", 1)]
    assert "mystery: 1 rows left out, the table is not classified here" in result.plan.warnings[0]
    assert await there.value("SELECT count(*) FROM mystery") == 0
    await here.execute("DELETE FROM mystery")
    await here.restore(bundle)
    assert await here.value("SELECT what FROM mystery") == "x"
    classified = await laptop(
        UNKNOWN, node=KITCHEN, tables='[[group]]\ntitle = "mine"\nclass = "business"\n[group.tables]\nmystery = {}\n'
    )
    await classified.restore(bundle)
    assert await classified.value("SELECT what FROM mystery") == "x"


async def test_references_to_rows_that_never_came_are_named(pair: Any) -> None:
    here, there = await pair(
        "CREATE TABLE places (id text PRIMARY KEY); CREATE TABLE uses (id text PRIMARY KEY, "
        '"businessId" text NOT NULL REFERENCES businesses, place text NOT NULL);',
        "INSERT INTO uses VALUES ('u', 'b1', '1');",
        "ALTER TABLE uses ADD FOREIGN KEY (place) REFERENCES places;",
    )
    with pytest.raises(MissingReferences, match=r"uses\.place: 1 refer to rows of places"):
        await there.plan(await here.bundle())


@pytest.mark.parametrize("when", ["INSERT", "UPDATE"])
async def test_a_trigger_that_swallows_rows_rolls_everything_back(pair: Any, when: str) -> None:
    here, there = await pair(
        PRODUCTS,
        row("p1", "a", "1", NEW) + row("p2", "b", "1", NEW),
        row("p1", "a", "2", OLD)
        + f"CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        f"CREATE TRIGGER t BEFORE {when} ON products FOR EACH ROW EXECUTE FUNCTION swallow();",
    )
    before = await there.contents()
    with pytest.raises(CountsDiffer, match="products"):
        await there.restore(await here.bundle())
    assert await there.contents() == before


async def test_a_rule_of_the_receiver_that_forbids_a_row_is_named(pair: Any) -> None:
    here, there = await pair(
        PRODUCTS, row("p1", "a", "-1", NEW), "ALTER TABLE products ADD CONSTRAINT positive CHECK (price > 0);"
    )
    with pytest.raises(RowsRefused, match="positive") as refused:
        await there.restore(await here.bundle())
    # The server tells the whole row; what is in it is nobody's business who reads a log or a mail.
    assert "-1" not in str(refused.value)
    assert "Failing row" not in str(refused.value)


async def test_a_plan_that_no_longer_holds_is_not_applied(pair: Any) -> None:
    here, there = await pair(PRODUCTS, row("p", "a", "1", NEW), row("p", "a", "2", OLD))
    bundle = await here.bundle()
    plan = await there.plan(bundle)
    assert (await there.plan(bundle)).digest == plan.digest
    await there.execute("UPDATE products SET price = 3")
    with pytest.raises(PlanChanged):
        await there.restore(bundle, expected=plan.digest)
    assert await there.value("SELECT price FROM products") == 3


async def test_an_open_transaction_of_the_platform_is_waited_for_and_then_named(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive, "LOCK_SECONDS", 0.3)
    here, there = await pair(PRODUCTS, row("p", "a", "1", NEW), row("p", "a", "2", OLD))
    bundle = await here.bundle()
    async with there.database.connect() as platform:
        transaction = platform.transaction()
        await transaction.start()
        await platform.execute("UPDATE products SET price = 9")
        with pytest.raises(LockTimeout, match=r"open transactions on .*products"):
            await there.restore(bundle)
        monkeypatch.setattr(exclusive, "LOCK_SECONDS", 10)
        restoring = asyncio.create_task(there.restore(bundle))
        await asyncio.sleep(0.5)
        with pytest.raises(RestoreRunning):
            await there.restore(bundle)
        await platform.execute("INSERT INTO products VALUES ('q', 'b1', 'q', 1, now())")
        await transaction.commit()
        await restoring
    assert await there.value("SELECT price FROM products WHERE id = 'p'") == 1
    assert await there.value("SELECT count(*) FROM products") == 2


async def test_a_cancelled_restore_leaves_nothing_behind(pair: Any) -> None:
    here, there = await pair(PRODUCTS, row("p", "a", "1", NEW))
    bundle = await here.bundle()

    class Slow:
        """The bundle, but its end never comes."""

        manifest = bundle.manifest

        async def frames(self) -> AsyncGenerator[EncodedFrame, None]:
            async for frame in bundle.frames():
                yield frame
            await asyncio.Event().wait()

    task = asyncio.create_task(there.restore(Slow()))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await there.value("SELECT count(*) FROM products") == 0
    for _ in range(50):
        if not await there.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'backroom%'"):
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("a session of the cancelled restore is still there")


async def test_a_file_that_changes_after_it_was_verified_is_refused(pair: Any) -> None:
    here, there = await pair(PRODUCTS, row("p", "a", "1", NEW))
    bundle: VerifiedBundle = await here.bundle()
    other = await here.bundle()
    original = bundle.path.read_bytes()
    for damaged, error in (
        (other.path.read_bytes(), BundleChanged),
        (original[:-10], BundleError),
        (original + b"x", BundleError),
        (original.replace(b"products", b"predicts", 1), BundleError),
    ):
        bundle.path.write_bytes(damaged)
        with pytest.raises(error):
            await there.restore(bundle)
        assert await there.value("SELECT count(*) FROM products") == 0
