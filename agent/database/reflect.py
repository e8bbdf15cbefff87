"""Reading the live schema from PostgreSQL's catalog (DESIGN section 3): six queries, however many tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agent.tables.schema import Column, ForeignKey, Schema, Table, UniqueKey

# The "char" type comes as bytes from asyncpg: cast to text. Temporary tables and extensions' own tables are not the
# platform's. A partition is read through its parent.
_TABLES = """
SELECT c.oid, n.nspname AS namespace, c.relname AS name,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       has_table_privilege(c.oid, 'SELECT') AS readable,
       greatest(c.reltuples, 0)::bigint AS estimated_rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND ($1::text[] IS NULL OR c.relname = ANY($1::text[]))
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND pg_table_is_visible(c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""

_COLUMNS = """
SELECT a.attrelid AS oid, a.attnum, a.attname AS name, a.attnotnull AS not_null,
       format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attgenerated::text = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
       a.attidentity::text AS identity, a.attgenerated::text <> '' AS generated,
       coalesce(e.oid, ee.oid) AS enum
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_type e ON e.oid = a.atttypid AND e.typtype = 'e'
LEFT JOIN pg_type t ON t.oid = a.atttypid AND t.typelem <> 0 AND t.typlen = -1
LEFT JOIN pg_type ee ON ee.oid = t.typelem AND ee.typtype = 'e'
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# What feeds a column: the sequence of an identity, or the one that its default calls, whoever owns that.
_SEQUENCES = """
SELECT f.oid, f.attnum, quote_ident(n.nspname) || '.' || quote_ident(s.relname) AS name
FROM (SELECT d.adrelid AS oid, d.adnum AS attnum, p.refobjid AS sequence
      FROM pg_attrdef d JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
      WHERE p.refclassid = 'pg_class'::regclass AND d.adrelid = ANY($1::oid[])
      UNION ALL
      SELECT p.refobjid, p.refobjsubid, p.objid FROM pg_depend p
      WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass AND p.deptype = 'i'
        AND p.refobjid = ANY($1::oid[]) AND p.refobjsubid > 0) f
JOIN pg_class s ON s.oid = f.sequence AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
ORDER BY s.oid DESC
"""

_KEYS = """
SELECT i.indrelid AS oid, x.relname AS name, i.indisprimary AS primary, pg_get_indexdef(i.indexrelid) AS definition,
       pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indexprs IS NOT NULL AS expression,
       NOT i.indimmediate AS deferrable,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_not_distinct,
       ARRAY(SELECT a.attname FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)::text[] AS columns
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique AND i.indisvalid
ORDER BY i.indrelid, NOT i.indisprimary, x.relname
"""

_FOREIGN_KEYS = """
SELECT k.conrelid AS oid, k.conname AS name, k.confrelid AS target, k.condeferrable AS deferrable,
       k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update,
       ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS c(attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.attnum
             ORDER BY c.place)::text[] AS columns,
       ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS c(attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.attnum
             ORDER BY c.place)::text[] AS target_columns
FROM pg_constraint k
WHERE k.contype::text = 'f' AND k.conrelid = ANY($1::oid[]) AND k.confrelid = ANY($1::oid[])
ORDER BY k.conrelid, k.conname
"""

_ENUMS = """
SELECT t.oid, CASE WHEN pg_type_is_visible(t.oid) THEN t.typname ELSE n.nspname || '.' || t.typname END AS name,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid = ANY($1::oid[])
"""

_ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the server's catalog says of tables, as rows: two that are equal are of one schema."""

    tables: list[asyncpg.Record]
    columns: list[asyncpg.Record]
    enums: list[asyncpg.Record]
    sequences: list[asyncpg.Record]
    keys: list[asyncpg.Record]
    foreign_keys: list[asyncpg.Record]


async def reflect(connection: asyncpg.Connection, only: Sequence[str] | None = None) -> Schema:
    """The schema of all tables that the ``search_path`` shows, in the current snapshot if there is one; ``only`` of
    those with these names, without what refers to others."""
    return schema_of(await read_catalog(connection, only))


async def read_catalog(connection: asyncpg.Connection, only: Sequence[str] | None = None) -> Catalog:
    """The catalog's rows of the same tables."""
    tables = await connection.fetch(_TABLES, only)
    oids = [row["oid"] for row in tables]
    columns = await connection.fetch(_COLUMNS, oids)
    return Catalog(
        tables,
        columns,
        await connection.fetch(_ENUMS, sorted({row["enum"] for row in columns if row["enum"]})),
        await connection.fetch(_SEQUENCES, oids),
        await connection.fetch(_KEYS, oids),
        await connection.fetch(_FOREIGN_KEYS, oids),
    )


def schema_of(catalog: Catalog) -> Schema:
    """The schema that these rows describe."""
    names = {row["oid"]: row["name"] for row in catalog.tables}
    enums = {row["oid"]: (row["name"], tuple(row["labels"])) for row in catalog.enums}
    sequences = {(row["oid"], row["attnum"]): row["name"] for row in catalog.sequences}
    columns: dict[int, list[Column]] = defaultdict(list)
    for row in catalog.columns:
        columns[row["oid"]].append(
            Column(
                name=row["name"],
                type=row["type"],
                not_null=row["not_null"],
                default=row["default"],
                identity=row["identity"],
                generated=row["generated"],
                enum=enums[row["enum"]][0] if row["enum"] else None,
                sequence=sequences.get((row["oid"], row["attnum"])),
            )
        )

    keys: dict[int, list[UniqueKey]] = defaultdict(list)
    for row in catalog.keys:
        keys[row["oid"]].append(
            UniqueKey(
                name=row["name"],
                columns=() if row["expression"] else tuple(row["columns"]),
                primary=row["primary"],
                nulls_not_distinct=row["nulls_not_distinct"],
                predicate=row["predicate"],
                definition=row["definition"],
                deferrable=row["deferrable"],
            )
        )

    foreign_keys: dict[int, list[ForeignKey]] = defaultdict(list)
    for row in catalog.foreign_keys:
        foreign_keys[row["oid"]].append(
            ForeignKey(
                name=row["name"],
                columns=tuple(row["columns"]),
                references=names[row["target"]],
                references_columns=tuple(row["target_columns"]),
                on_delete=_ACTIONS[row["on_delete"]],
                on_update=_ACTIONS[row["on_update"]],
                deferrable=row["deferrable"],
            )
        )

    return Schema(
        tables={
            row["name"]: Table(
                name=row["name"],
                namespace=row["namespace"],
                columns=tuple(columns[row["oid"]]),
                keys=tuple(keys[row["oid"]]),
                foreign_keys=tuple(foreign_keys[row["oid"]]),
                owned=row["owned"],
                readable=row["readable"],
                estimated_rows=row["estimated_rows"],
            )
            for row in catalog.tables
        },
        enums=dict(sorted(enums.values())),
    )
