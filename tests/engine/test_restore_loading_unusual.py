"""Loading beside unusual keys and indexes: those that are looked at only at the end, and what no definition says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.database import rebuild as rebuilding
from agent.database.rebuild import Rebuild
from agent.database.transaction import RowsRefused
from agent.engine import loading
from protocol.manifest import Kind
from tests.engine.test_restore_loading import NO_BUSINESSES, both_ways, load_from, shape
from tests.support.restores import KITCHEN, Laptop
from tests.support.shops import laptop

pytestmark = pytest.mark.every_server

__all__ = ["laptop"]

LEAST = 30
"""Rows of the tables that are loaded here; the others have fewer."""
LATE = "DEFERRABLE INITIALLY DEFERRED"
DEFERRED = f"""
CREATE TABLE shelves (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses {LATE},
    "besideId" text NOT NULL REFERENCES shelves {LATE}, place integer UNIQUE {LATE});
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses {LATE},
    "nextId" text NOT NULL REFERENCES sales {LATE}, number integer UNIQUE {LATE});
CREATE TABLE boxes (id text PRIMARY KEY, "shelfId" text NOT NULL REFERENCES shelves {LATE},
    "saleId" text NOT NULL REFERENCES sales {LATE});
ALTER TABLE shelves ADD "boxId" text NOT NULL REFERENCES boxes {LATE};
ALTER TABLE sales ADD "boxId" text NOT NULL REFERENCES boxes {LATE};
CREATE TABLE labels (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses {LATE}, text text UNIQUE);
ALTER TABLE boxes ADD label text REFERENCES labels (text) {LATE};
"""
CIRCLES = """
BEGIN;
INSERT INTO shelves SELECT n::text, 'b1', (1 + n % 4)::text, n, (1 + n % 3)::text FROM generate_series(1, 4) n;
INSERT INTO sales SELECT n::text, 'b1', (1 + n % 40)::text, n, (1 + n % 3)::text FROM generate_series(1, 40) n;
INSERT INTO labels VALUES ('1', 'b1', 'new');
INSERT INTO boxes SELECT n::text, (1 + n % 4)::text, (1 + n % 40)::text, 'new' FROM generate_series(1, 3) n;
COMMIT;
"""
OLD = "INSERT INTO businesses VALUES ('b1', 'Grill'); INSERT INTO labels VALUES ('1', 'b1', 'old');"
ODD = """
CREATE TABLE sales (
    id text, "businessId" text NOT NULL, number integer, day date, body text, tags text[], code text,
    CONSTRAINT "the key" PRIMARY KEY (id) INCLUDE (number, day) WITH (fillfactor = 70),
    CONSTRAINT late UNIQUE (number, day) WITH (fillfactor = 60, deduplicate_items = off) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT lazy UNIQUE (code, number) INCLUDE (day) DEFERRABLE,
    CONSTRAINT plain UNIQUE (code),
    FOREIGN KEY ("businessId") REFERENCES businesses ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE
);
CREATE UNIQUE INDEX bare_number ON sales (number);
CREATE UNIQUE INDEX a_later_one ON sales (code) INCLUDE (day);
CREATE TABLE lines (
    id integer GENERATED ALWAYS AS IDENTITY (START 5) PRIMARY KEY, "saleId" text NOT NULL, number integer,
    code text REFERENCES sales (code), at point,
    whole integer UNIQUE WITH (fillfactor = 50),
    FOREIGN KEY ("saleId") REFERENCES sales ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (number) REFERENCES sales (number) MATCH FULL ON DELETE SET DEFAULT
);
ALTER TABLE lines ADD CONSTRAINT one_of_none UNIQUE NULLS NOT DISTINCT (id, number);
CREATE INDEX packed ON sales (day DESC NULLS LAST, number) INCLUDE (id) WITH (fillfactor = 40);
CREATE INDEX collated ON sales (body COLLATE "C" text_pattern_ops, (upper(body)) COLLATE "C") WHERE number > 3;
CREATE UNIQUE INDEX bare ON sales (lower(id)) NULLS NOT DISTINCT WITH (fillfactor = 90);
CREATE INDEX listed ON sales USING gin (tags) WITH (fastupdate = off, gin_pending_list_limit = 128);
CREATE INDEX searched ON sales USING gist (to_tsvector('simple', body) tsvector_ops (siglen = 100))
    WITH (buffering = on);
CREATE INDEX ranged ON sales USING brin (number int4_minmax_multi_ops (values_per_range = 16))
    WITH (autosummarize = on);
CREATE INDEX hashed ON sales USING hash (body) WITH (fillfactor = 55);
CREATE INDEX placed ON lines USING spgist (at kd_point_ops);
CREATE INDEX unmeasured ON sales ((number + 1));
ALTER INDEX unmeasured ALTER COLUMN 1 SET STATISTICS 0;
CREATE INDEX measured ON sales ((number + 2));
ALTER INDEX measured ALTER COLUMN 1 SET STATISTICS 500;
CREATE INDEX attached ON sales ((number + 3));
ALTER INDEX attached DEPENDS ON EXTENSION plpgsql;
"""
ROWS = """
INSERT INTO sales SELECT 's' || n, 'b1', n, date '2026-01-01' + n, 'x' || n, ARRAY['t' || n % 3], 'c' || n
FROM generate_series(1, 40) n;
INSERT INTO lines ("saleId", number, code, at, whole) SELECT 's' || n, n, 'c' || n, point(n, n), n
FROM generate_series(1, 35) n;
"""
INDEXES = """
SELECT x.relname AS name, x.oid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid IN ('sales'::regclass, 'lines'::regclass)
"""
# Whole rows of the catalogs, but for numbers that PostgreSQL gives, text with places in it, and measurements.
CATALOGS = r"""
WITH mine AS (SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace)
SELECT concat_ws(' ', 'index', x.relname, t.relname, pg_get_indexdef(i.indexrelid),
    to_jsonb(i) - ARRAY['indexrelid', 'indrelid', 'indexprs', 'indpred', 'indcheckxmin'],
    to_jsonb(x) - ARRAY['oid', 'relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid',
                        'relminmxid']) AS part
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid IN (TABLE mine)
UNION ALL
SELECT concat_ws(' ', 'constraint', k.conrelid::regclass, pg_get_constraintdef(k.oid), k.conindid::regclass,
    k.confrelid::regclass, to_jsonb(k) - ARRAY['oid', 'conindid', 'conrelid', 'confrelid', 'conbin'])
FROM pg_constraint k WHERE k.conrelid IN (TABLE mine)
UNION ALL
SELECT concat_ws(' ', 'column', a.attrelid::regclass, to_jsonb(a) - ARRAY['attrelid', 'attcacheoff'])
FROM pg_attribute a WHERE a.attrelid IN (TABLE mine)
UNION ALL
SELECT concat_ws(' ', 'trigger', t.tgrelid::regclass, (SELECT conname FROM pg_constraint WHERE oid = t.tgconstraint),
    t.tgconstrindid::regclass, t.tgconstrrelid::regclass, to_jsonb(t)
    - ARRAY['oid', 'tgrelid', 'tgconstraint', 'tgconstrindid', 'tgconstrrelid', 'tgname', 'tgparentid'])
FROM pg_trigger t WHERE t.tgrelid IN (TABLE mine)
UNION ALL
SELECT regexp_replace(concat_ws(' ', 'dependency', pg_describe_object(d.classid, d.objid, d.objsubid), d.deptype,
    pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)), '(ConstraintTrigger\w*|pg_toast)_\d+', '\1', 'g')
FROM pg_depend d
WHERE 'public' IN ((pg_identify_object(d.classid, d.objid, d.objsubid)).schema,
                   (pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid)).schema)
   OR d.classid IN ('pg_constraint'::regclass, 'pg_trigger'::regclass)
ORDER BY 1
"""


async def catalogs(laptop: Laptop) -> list[str]:
    """All that the catalogs say about the tables and what belongs to them."""
    return [row["part"] for row in await laptop.fetch(CATALOGS)]


def load_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load what has at least ``LEAST`` rows; the rows of the other tables are inserted beside it."""
    load_from(monkeypatch, 1)
    monkeypatch.setattr(loading, "LEAST_OF_TABLE", LEAST)


async def test_rows_whose_keys_are_looked_at_at_the_end(
    laptop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of small tables that refer to each other in circles, to a loaded one that refers to them, and to what an update
    that comes later makes of a row."""
    source = await laptop(DEFERRED + CIRCLES)
    staged, loaded = [await laptop(DEFERRED + OLD, node=KITCHEN, businesses=NO_BUSINESSES) for _ in range(2)]
    monkeypatch.setattr("tests.engine.test_restore_loading.load_from", lambda patch, rows: load_large(patch))
    seen = await both_ways(monkeypatch, source, staged, loaded, tmp_path)
    assert seen.loaded
    assert "checking references" in seen.stages


@pytest.mark.parametrize("broken", ["shelfId", "saleId"])
async def test_a_row_that_breaks_such_a_key_is_refused_as_ever(
    laptop: Any, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stays while the rows go in, and one that is made again after them."""
    source = await laptop(DEFERRED + CIRCLES)
    await source.execute(f"""ALTER TABLE boxes DROP CONSTRAINT "boxes_{broken}_fkey" """)
    await source.execute(f"""UPDATE boxes SET "{broken}" = 'gone' WHERE id = '2'""")
    target = await laptop(DEFERRED, node=KITCHEN, businesses=NO_BUSINESSES)
    monkeypatch.setattr("agent.tables.schema.Schema.fingerprint", lambda self: "0" * 64)
    bundle = await source.bundle(Kind.FULL)
    before, declared = await target.contents(), await shape(target)
    said, taken_down = [], []

    async def take_down(connection: Any, rebuild: Rebuild) -> None:
        taken_down.append(rebuild.tables)
        await rebuilding.take_down(connection, rebuild)

    monkeypatch.setattr("agent.engine.restore.take_down", take_down)
    for loaded in ([], [{"sales"}]):
        if loaded:
            load_large(monkeypatch)
        with pytest.raises(RowsRefused, match=f"boxes_{broken}_fkey") as refused:
            await target.restore(bundle)
        assert taken_down == loaded
        said.append(str(refused.value))
        assert await target.contents() == before
        assert await shape(target) == declared
    assert said[0] == said[1]


async def test_the_catalogs_say_what_they_said(laptop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await laptop(ODD + ROWS)
    staged, loaded = [await laptop(ODD, node=KITCHEN, businesses=NO_BUSINESSES) for _ in range(2)]
    async with loaded.database.connect(admin=True) as admin:
        await admin.execute("SET allow_in_place_tablespaces = on")
        await admin.execute("CREATE TABLESPACE elsewhere LOCATION ''")
        await admin.execute(f"ALTER DATABASE {loaded.database.name} SET default_tablespace = 'elsewhere'")
    before, indexes = await catalogs(loaded), set(await loaded.fetch(INDEXES))
    seen = await both_ways(monkeypatch, source, staged, loaded, tmp_path)
    assert seen.loaded
    assert await catalogs(loaded) == before
    kept = {row["name"] for row in indexes & set(await loaded.fetch(INDEXES))}
    assert kept == {"the key", "late", "lines_whole_key", "unmeasured", "measured", "attached"}
