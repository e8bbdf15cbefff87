"""Reading the live schema from PostgreSQL's catalog (DESIGN section 3): six queries, whatever the number of tables."""

from __future__ import annotations

from collections import defaultdict

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
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND pg_table_is_visible(c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""

_COLUMNS = """
SELECT a.attrelid AS oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       CASE WHEN a.attgenerated::text = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
       a.attidentity::text AS identity, a.attgenerated::text <> '' AS generated,
       coalesce(e.typname, ee.typname) AS enum,
       CASE WHEN a.attidentity::text <> '' OR d.adbin IS NOT NULL
            THEN pg_get_serial_sequence(quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname)
       END AS sequence
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_type e ON e.oid = a.atttypid AND e.typtype = 'e'
LEFT JOIN pg_type t ON t.oid = a.atttypid AND t.typelem <> 0 AND t.typlen = -1
LEFT JOIN pg_type ee ON ee.oid = t.typelem AND ee.typtype = 'e'
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_KEYS = """
SELECT i.indrelid AS oid, x.relname AS name, i.indisprimary AS primary, pg_get_indexdef(i.indexrelid) AS definition,
       pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indexprs IS NOT NULL AS expression,
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
SELECT t.typname AS name, array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS labels
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typname = ANY($1::text[]) AND pg_type_is_visible(t.oid)
GROUP BY t.typname
"""

_ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}


async def reflect(connection: asyncpg.Connection) -> Schema:
    """The schema of all tables that the ``search_path`` shows, in the current snapshot if there is one."""
    tables = await connection.fetch(_TABLES)
    oids = [row["oid"] for row in tables]
    names = {row["oid"]: row["name"] for row in tables}

    columns: dict[int, list[Column]] = defaultdict(list)
    for row in await connection.fetch(_COLUMNS, oids):
        columns[row["oid"]].append(
            Column(
                name=row["name"],
                type=row["type"],
                not_null=row["not_null"],
                default=row["default"],
                identity=row["identity"],
                generated=row["generated"],
                enum=row["enum"],
                sequence=row["sequence"],
            )
        )

    keys: dict[int, list[UniqueKey]] = defaultdict(list)
    for row in await connection.fetch(_KEYS, oids):
        keys[row["oid"]].append(
            UniqueKey(
                name=row["name"],
                columns=() if row["expression"] else tuple(row["columns"]),
                primary=row["primary"],
                nulls_not_distinct=row["nulls_not_distinct"],
                predicate=row["predicate"],
                definition=row["definition"],
            )
        )

    foreign_keys: dict[int, list[ForeignKey]] = defaultdict(list)
    for row in await connection.fetch(_FOREIGN_KEYS, oids):
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

    enum_names = sorted({column.enum for group in columns.values() for column in group if column.enum})
    enums = {row["name"]: tuple(row["labels"]) for row in await connection.fetch(_ENUMS, enum_names)}
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
            for row in tables
        },
        enums=enums,
    )
