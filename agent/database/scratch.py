"""A scratch database: the tables of a schema made anew, empty, to be filled, looked at and thrown away.

It is a namespace of its own in some database (``?schema=`` in its address), so that no right but CREATE is needed and
nothing that is there is touched.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from agent.database.connect import connect
from agent.database.errors import DatabaseError, translating
from agent.database.names import column_list, literal, qualified, quote
from agent.tables.schema import Column, ForeignKey, Schema, Table, UniqueKey

PREFIX = "backroom_drill_"
_DOING = "The drill"
_ACTIONS = {"no action", "restrict", "cascade", "set null", "set default"}


class ScratchFailed(DatabaseError):
    code = "scratch-failed"
    hint = "Give another database with --database URL; its user needs the right to create in it."


@asynccontextmanager
async def scratch_namespace(url: str) -> AsyncIterator[str]:
    """A new, empty namespace in the database at ``url``; yields its address, and drops it with all that is in it.

    Raises :class:`ScratchFailed` and errors of ``agent.database.errors``.
    """
    name = PREFIX + secrets.token_hex(6)
    await _execute(url, f"CREATE SCHEMA {quote(name)}")
    try:
        parts = urlsplit(url)
        query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), "schema": name}
        yield urlunsplit(parts._replace(query=urlencode(query)))
    finally:
        await _execute(url, f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE")


async def _execute(url: str, statement: str) -> None:
    connection = await connect(url, application_name="backroom: the drill")
    try:
        with translating(_DOING):
            await connection.execute(statement)
    except asyncpg.PostgresError as error:
        raise ScratchFailed(f"The database for the drill cannot be used: {error}.") from error
    finally:
        await connection.close(timeout=5)


async def build(url: str, schema: Schema) -> tuple[str, ...]:
    """Make the types, tables, keys and foreign keys of ``schema`` in the empty namespace that ``url`` names.

    Generated columns are left out: they never travel. What hangs on functions or columns that are not here (a default,
    a unique expression) is left out too, and returned, a phrase for each. Raises :class:`ScratchFailed` for a table
    that cannot be made.
    """
    left_out: list[str] = []
    connection = await connect(url, application_name="backroom: the drill")
    try:
        async with connection.transaction():
            for name, labels in schema.enums.items():
                await _must(connection, f"CREATE TYPE {quote(name)} AS ENUM ({', '.join(map(literal, labels))})", name)
            for sequence in sorted({name for table in schema.tables.values() for name in _sequences(table)}):
                await _must(connection, f"CREATE SEQUENCE {sequence}", sequence)
            for table in schema.tables.values():
                columns = ", ".join(_column(column) for column in table.stored_columns)
                await _must(connection, f"CREATE TABLE {quote(table.name)} ({columns})", table.name)
            for table in schema.tables.values():
                for what, statement in (*_defaults(table), *_keys(table)):
                    left_out += await _try(connection, what, statement)
            for table in schema.tables.values():
                for key in table.foreign_keys:
                    left_out += await _try(connection, f"{table.name}.{key.name}", _foreign_key(table, key))
    finally:
        await connection.close(timeout=5)
    return tuple(left_out)


async def write_to(connection: asyncpg.Connection, table: Table) -> str:
    """Write one row of the table back as it is, and draw from its sequences; "" or what went wrong, in words."""
    columns = [column for column in table.stored_columns if column.identity != "a"]
    for column in table.stored_columns:
        if column.sequence is not None:
            highest = f"(SELECT max({quote(column.name)})::bigint FROM {qualified(table)})"
            drawn = await connection.fetchval(
                f"SELECT nextval($1::text::regclass) > coalesce({highest}, 0)", column.sequence
            )
            if not drawn:
                return f"{table.name}.{column.name}: its sequence would give a number that is taken"
    if columns:
        names = ", ".join(f"{quote(column.name)} = t.{quote(column.name)}" for column in columns)
        one = f"(SELECT ctid FROM {qualified(table)} LIMIT 1)"
        done = await connection.execute(f"UPDATE {qualified(table)} t SET {names} WHERE ctid = {one}")
        if done != "UPDATE 1":
            return f"{table.name}: a row could not be written"
    return ""


async def _must(connection: asyncpg.Connection, statement: str, what: str) -> None:
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        raise ScratchFailed(f"{what} cannot be made in the database for the drill: {error}.") from error


async def _try(connection: asyncpg.Connection, what: str, statement: str) -> list[str]:
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except asyncpg.PostgresError as error:
        return [f"{what} ({error})"]
    return []


def _sequences(table: Table) -> list[str]:
    """The quoted names, without namespace, of the sequences that defaults draw from."""
    return [_bare(column.sequence) for column in table.stored_columns if column.sequence and not column.identity]


def _bare(sequence: str) -> str:
    return sequence.rpartition(".")[2]


def _column(column: Column) -> str:
    identity = {"a": " GENERATED ALWAYS AS IDENTITY", "d": " GENERATED BY DEFAULT AS IDENTITY"}
    return f"{quote(column.name)} {column.type}{' NOT NULL' if column.not_null else ''}" + identity.get(
        column.identity, ""
    )


def _defaults(table: Table) -> list[tuple[str, str]]:
    return [
        (
            f"the default of {table.name}.{column.name}",
            f"ALTER TABLE {quote(table.name)} ALTER COLUMN {quote(column.name)} SET DEFAULT {_default(column)}",
        )
        for column in table.stored_columns
        if column.default is not None and not column.identity
    ]


def _default(column: Column) -> str:
    if column.sequence is not None:
        return f"nextval({literal(_bare(column.sequence))}::regclass)"
    return str(column.default)


def _keys(table: Table) -> list[tuple[str, str]]:
    return [(f"{table.name}.{key.name}", _key(table, key)) for key in table.keys]


def _key(table: Table, key: UniqueKey) -> str:
    name = quote(table.name)
    if key.primary:
        return f"ALTER TABLE {name} ADD PRIMARY KEY ({column_list(key.columns)})"
    method = re.split(r" USING ", key.definition, maxsplit=1)[-1]
    return f"CREATE UNIQUE INDEX {quote(key.name)} ON {name} USING {method}"


def _foreign_key(table: Table, key: ForeignKey) -> str:
    assert {key.on_delete, key.on_update} <= _ACTIONS
    return (
        f"ALTER TABLE {quote(table.name)} ADD CONSTRAINT {quote(key.name)} FOREIGN KEY ({column_list(key.columns)}) "
        f"REFERENCES {quote(key.references)} ({column_list(key.references_columns)}) "
        f"ON DELETE {key.on_delete.upper()} ON UPDATE {key.on_update.upper()}"
        f"{' DEFERRABLE' if key.deferrable else ''}"
    )
