"""Loading tables without what makes it slow: keys, indexes and foreign keys go first and come again at the end.

All of it happens in the transaction that loads, so nobody ever sees a table without them. What PostgreSQL's own
definition of a thing does not say in full (a comment, a tablespace, a parameter, a state), or what something else hangs
on, stays in place: it is then kept up row by row, as always.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified
from agent.tables.schema import Table

# For sorting the rows of an index, whose workers share it, and for the rows that a foreign key refers to.
_MEMORY = "128MB"


def _named(namespace: str, relation: str) -> str:
    """SQL: the quoted name of a relation, as :func:`agent.database.names.qualified` writes it."""
    quoted = (f"""replace({each}, '"', '""')""" for each in (f"{namespace}.nspname", f"{relation}.relname"))
    return """'"' || """ + """ || '"."' || """.join(quoted) + """ || '"'"""


_LOADABLE = """
SELECT c.oid, w.place, has_table_privilege(c.oid, 'TRUNCATE') AS may_truncate
FROM unnest($1::text[]) WITH ORDINALITY w(name, place)
JOIN pg_class c ON c.oid = w.name::regclass
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relhasrules AND NOT c.relhassubclass AND NOT c.relispartition
  AND NOT c.relrowsecurity AND pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
"""

# Triggers may count on what is taken down, event triggers see that it is, and a published table needs its key.
_LISTENERS = """
SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ANY($1::text[]::regclass[]) AND NOT t.tgisinternal)
    OR EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtenabled <> 'D') OR EXISTS (SELECT FROM pg_publication)
"""

_FOREIGN_KEYS = f"""
SELECT k.oid, quote_ident(k.conname) AS name, k.conrelid AS child, k.confrelid AS parent,
       {_named("cn", "c")} AS child_name, {_named("pn", "p")} AS parent_name,
       pg_get_constraintdef(k.oid) AS definition,
       k.convalidated AND k.conislocal AND k.coninhcount = 0 AND k.conparentid = 0
       AND c.relkind = 'r' AND p.relkind = 'r'
       AND pg_has_role(c.relowner, 'USAGE') AND pg_has_role(p.relowner, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled <> 'O')
       AND NOT EXISTS (SELECT FROM pg_description d WHERE d.classoid = 'pg_constraint'::regclass AND d.objoid = k.oid)
       AS simple
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND (k.conrelid = ANY($1::oid[]) OR k.confrelid = ANY($1::oid[]))
ORDER BY c.relname, k.conname
"""

# In the order in which they are made again. A foreign key takes the oldest index of its columns, so those that foreign
# keys have come first.
_INDEXES = f"""
SELECT {_named("n", "x")} AS name, {_named("tn", "t")} AS table_name, quote_ident(k.conname) AS constraint,
       pg_get_constraintdef(k.oid) AS constraint_definition, pg_get_indexdef(i.indexrelid) AS definition,
       ARRAY(SELECT f.oid FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid) AS needed_by,
       i.indisvalid AND i.indisready AND NOT i.indisreplident AND NOT i.indisclustered AND NOT i.indisexclusion
       AND x.reltablespace = 0
       AND (k.oid IS NULL OR k.conislocal AND k.coninhcount = 0 AND x.reloptions IS NULL)
       AND NOT EXISTS (SELECT FROM pg_description d WHERE d.objoid IN (i.indexrelid, k.oid)
                       AND d.classoid IN ('pg_class'::regclass, 'pg_constraint'::regclass))
       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refobjid IN (i.indexrelid, k.oid) AND d.deptype <> 'i'
                       AND d.refclassid IN ('pg_class'::regclass, 'pg_constraint'::regclass)
                       AND NOT EXISTS (SELECT FROM pg_constraint f WHERE d.classid = 'pg_constraint'::regclass
                                       AND f.oid = d.objid AND f.contype = 'f'))
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = i.indexrelid AND d.classid = 'pg_class'::regclass
                       AND d.deptype = 'x')
       AS simple
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY($1::oid[])
ORDER BY t.relname, NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid),
         i.indexrelid
"""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What to take down for loading ``tables``, and to put up again, ``indexes`` first and then the foreign keys
    (``references``): statements, in order, each with the name of its table.

    ``touched`` are the names of all tables that must be held for it alone. The tables ``anew`` are truncated, too, so
    that rows can be written to them as old ones (:func:`agent.database.staging.copy_rows`).
    """

    tables: frozenset[str]
    touched: frozenset[str]
    down: tuple[tuple[str, str], ...]
    indexes: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str], ...]
    anew: frozenset[str] = frozenset()


async def survey(connection: asyncpg.Connection, candidates: Sequence[Table], written: Iterable[Table]) -> Rebuild:
    """What there is to take down for loading the ``candidates``; of these, only tables without anything in the way.

    ``written`` are all tables that the transaction writes to: where something listens to what is done to one of them,
    no table is loaded so. Takes nothing down yet.
    """
    nothing = Rebuild(frozenset(), frozenset(), (), (), ())
    if await connection.fetchval(_LISTENERS, [qualified(table) for table in written]):
        return nothing
    names = [qualified(table) for table in candidates]
    loadable = await connection.fetch(_LOADABLE, names)
    found = {row["oid"]: candidates[row["place"] - 1] for row in loadable}
    foreign = await connection.fetch(_FOREIGN_KEYS, list(found))
    for row in foreign:
        # A foreign key that stays is looked at row by row, in the order in which the rows come: not that of a load.
        if not row["simple"]:
            found.pop(row["child"], None)
    dropped = [row for row in foreign if row["simple"] and (row["child"] in found or row["parent"] in found)]
    gone = {row["oid"] for row in dropped}
    indexes = [
        row for row in await connection.fetch(_INDEXES, list(found)) if row["simple"] and set(row["needed_by"]) <= gone
    ]
    # No table can be truncated that a foreign key still refers to.
    referred = {row["parent"] for row in foreign if not row["simple"]}
    anew = [found[row["oid"]] for row in loadable if row["may_truncate"] and row["oid"] in found.keys() - referred]
    return Rebuild(
        tables=frozenset(table.name for table in found.values()),
        touched=frozenset(name for row in dropped for name in (row["child_name"], row["parent_name"])),
        down=(
            *((row["child_name"], _drop(row["child_name"], row["name"])) for row in dropped),
            *((row["table_name"], _drop_index(row)) for row in indexes),
            *((qualified(table), f"TRUNCATE ONLY {qualified(table)}") for table in anew),
        ),
        indexes=tuple((row["table_name"], _add_index(row)) for row in indexes),
        references=tuple(_add_all((row["child_name"], row["name"], row["definition"]) for row in dropped)),
        anew=frozenset(table.name for table in anew),
    )


async def survey_references(
    connection: asyncpg.Connection, parents: Sequence[Table], children: Iterable[Table], written: Iterable[Table]
) -> Rebuild:
    """The foreign keys of ``children`` that refer to the ``parents``, for deleting many rows of these.

    For each row that goes PostgreSQL looks who refers to it, and where no index helps it reads the whole other table,
    the rows that have gone included. Made again, a foreign key looks at all rows once. Takes nothing down yet.
    """
    if await connection.fetchval(_LISTENERS, [qualified(table) for table in written]):
        return Rebuild(frozenset(), frozenset(), (), (), ())
    found = {row["oid"] for row in await connection.fetch(_LOADABLE, [qualified(table) for table in parents])}
    names = {qualified(table) for table in children}
    dropped = [
        row
        for row in await connection.fetch(_FOREIGN_KEYS, list(found))
        if row["simple"] and row["parent"] in found and row["child_name"] in names
    ]
    return Rebuild(
        tables=frozenset(),
        touched=frozenset(name for row in dropped for name in (row["child_name"], row["parent_name"])),
        down=tuple((row["child_name"], _drop(row["child_name"], row["name"])) for row in dropped),
        indexes=(),
        references=tuple(_add_all((row["child_name"], row["name"], row["definition"]) for row in dropped)),
    )


async def take_down(connection: asyncpg.Connection, rebuild: Rebuild) -> None:
    """Drop everything. The tables must be held, and those to load must be empty."""
    await connection.execute("; ".join(statement for _, statement in rebuild.down))


async def build_indexes(connection: asyncpg.Connection, rebuild: Rebuild, told: Callable[[str], None]) -> None:
    """Make the indexes again, and the keys that they are of, as they were; ``told`` hears of the tables. Raises what a
    row breaks."""
    # Where the database is, as usual, on this machine: a worker more than there are processors only gets in the way.
    await connection.execute(
        "SELECT set_config(name, least(setting::int, $1)::text, true) FROM pg_settings "
        "WHERE name = 'max_parallel_maintenance_workers'",
        max(0, (os.cpu_count() or 1) - 1),
    )
    await _put_up(connection, rebuild.indexes, told)


async def add_references(connection: asyncpg.Connection, rebuild: Rebuild, told: Callable[[str], None]) -> None:
    """Make the foreign keys again; like :func:`build_indexes`, and after it."""
    await _put_up(connection, rebuild.references, told)


async def _put_up(
    connection: asyncpg.Connection, statements: Iterable[tuple[str, str]], told: Callable[[str], None]
) -> None:
    # An index that names no tablespace was in the database's own. And no table can be altered while a deferred key has
    # yet to look at rows of it: it looks now, when all rows are there.
    await connection.execute(
        f"SET LOCAL maintenance_work_mem = '{_MEMORY}'; SET LOCAL default_tablespace = ''; "
        "SET CONSTRAINTS ALL IMMEDIATE"
    )
    for name, statement in statements:
        told(name)
        await connection.execute(statement)


def _drop(table: str, constraint: str) -> str:
    return f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"


def _drop_index(row: asyncpg.Record) -> str:
    if row["constraint"] is not None:
        return _drop(row["table_name"], row["constraint"])
    return f"DROP INDEX {row['name']}"


def _add_index(row: asyncpg.Record) -> str:
    if row["constraint"] is not None:
        return f"ALTER TABLE {row['table_name']} ADD CONSTRAINT {row['constraint']} {row['constraint_definition']}"
    return str(row["definition"])


def _add_all(keys: Iterable[tuple[str, str, str]]) -> Sequence[tuple[str, str]]:
    """One statement for all foreign keys of a table."""
    of_table: dict[str, list[str]] = defaultdict(list)
    for table, name, definition in keys:
        of_table[table].append(f"ADD CONSTRAINT {name} {definition}")
    return [(table, f"ALTER TABLE {table} {', '.join(parts)}") for table, parts in of_table.items()]
