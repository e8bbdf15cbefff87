"""The filler that other tests stand on: rows in every table of any schema."""

from __future__ import annotations

from typing import Any

from tests.conftest import MakeDatabase
from tests.support.databases import Database
from tests.support.everything import catalogue_references, fill_everything

UNKNOWN = """
CREATE SCHEMA other;
CREATE TYPE "Mood" AS ENUM ('happy', 'so so', 'it''s bad');
CREATE TABLE businesses (id uuid PRIMARY KEY, name text NOT NULL, "isDemo" boolean NOT NULL);
CREATE TABLE wide (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "businessId" uuid NOT NULL REFERENCES businesses,
  b bytea, d date, ds date[], n numeric, ns numeric[], m "Mood", ms "Mood"[] NOT NULL, t time(3), tz timestamptz,
  ts timestamp[], j json, jb jsonb[], u uuid[], i interval, f float4, fs float8[], v varchar(3)[], bits bit(4),
  r int4range, p point, net inet, mac macaddr, c char(5), s smallserial,
  up text GENERATED ALWAYS AS (upper(v[1])) STORED,
  UNIQUE (d, m));
CREATE TABLE hen (id serial PRIMARY KEY, egg int);
CREATE TABLE egg (id serial PRIMARY KEY, hen int NOT NULL REFERENCES hen, "businessId" uuid);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
CREATE TABLE two_owners (a uuid NOT NULL REFERENCES businesses, b uuid REFERENCES businesses, PRIMARY KEY (a, b));
CREATE TABLE part (id text, line int, up text, up_line int, PRIMARY KEY (id, line),
                   FOREIGN KEY (up, up_line) REFERENCES part);
CREATE TABLE lonely (note text);
"""


async def fetch_counts(connection: Any, tables: dict[str, int]) -> dict[str, int]:
    return {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in tables}


async def test_every_platform_table_has_rows_of_each_business(everything_database: Database) -> None:
    async with everything_database.connect() as connection:
        names = [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        assert len(names) == 143
        found = await fetch_counts(connection, dict.fromkeys(names, 0))
        assert min(found.values()) >= 3
        for table in ("business_orders", "employees", "receipt_sequences", "r710_tokens"):
            column = "primaryBusinessId" if table == "employees" else "businessId"
            assert await connection.fetchval(f'SELECT count(DISTINCT "{column}") FROM {table}') == 3
        for (table, column), target in catalogue_references().items():
            dangling = await connection.fetchval(
                f'SELECT count(*) FROM "{table}" WHERE "{column}" IS NOT NULL'
                f' AND "{column}"::text NOT IN (SELECT id FROM "{target}")'
            )
            assert dangling == 0, (table, column)


async def test_orders_never_mix_businesses(everything_database: Database) -> None:
    async with everything_database.connect() as connection:
        assert not await connection.fetchval(
            'SELECT count(*) FROM business_orders o JOIN business_customers c ON c.id = o."customerId"'
            ' WHERE c."businessId" <> o."businessId"'
        )
        assert await connection.fetchval(
            'SELECT count(*) FROM inter_business_loans WHERE "lenderBusinessId" <> "borrowerBusinessId"'
        )


async def test_an_unknown_schema_is_filled_the_same_way_every_time(database: MakeDatabase) -> None:
    found = []
    for _ in range(2):
        made = await database()
        async with made.connect() as connection:
            await connection.execute(UNKNOWN)
            tables = await fill_everything(connection, per_business=4, references={})
            assert await fetch_counts(connection, tables) == tables
            assert tables["businesses"] == 3
            assert await connection.fetchval("SELECT count(*) FROM hen WHERE egg IS NOT NULL")
            assert await connection.fetchval("SELECT count(*) FROM part WHERE up IS NOT NULL")
            text = "SELECT string_agg(w::text, E'\\n' ORDER BY w::text) FROM {} w"
            found.append([await connection.fetchval(text.format(f'"{name}"')) for name in sorted(tables)])
    assert found[0] == found[1]
