"""The demo's schema against the facts of the plan."""

from __future__ import annotations

from agent.database.reflect import reflect
from agent.demo.schema import demo_schema
from agent.tables.schema import Schema
from tests.support import schema_file
from tests.support.databases import Database

HAVE_FACTS = schema_file.FACTS.is_dir()


async def reflected(database: Database) -> Schema:
    async with database.connect() as connection:
        return await reflect(connection)


async def test_database_has_every_table_column_and_foreign_key(platform_database: Database) -> None:
    schema = await reflected(platform_database)
    assert len(schema.tables) == 143
    assert sum(len(table.columns) for table in schema.tables.values()) == 1914
    assert sum(len(table.foreign_keys) for table in schema.tables.values()) == 284
    assert sum(len(table.keys) for table in schema.tables.values()) == 221
    assert len(schema.enums) == 34
    assert all(table.owned and table.primary_key for table in schema.tables.values())


async def test_database_equals_the_facts_to_the_default(platform_database: Database) -> None:
    schema = await reflected(platform_database)
    if not HAVE_FACTS:
        assert set(schema.tables) == set(demo_schema().tables)
        return
    columns = [
        {
            "sql_table": table.name,
            "column": column.name,
            "type": column.type,
            "nullable": "no" if column.not_null else "yes",
            "default": column.default or "",
        }
        for table in schema.tables.values()
        for column in table.columns
    ]
    assert columns == schema_file.rows("columns")
    foreign_keys = {
        (t.name, "+".join(f.columns), f.references, "+".join(f.references_columns), f.on_delete, f.on_update)
        for t in schema.tables.values()
        for f in t.foreign_keys
    }
    names = ("sql_table", "columns", "references_table", "references_columns", "on_delete", "on_update")
    assert foreign_keys == {tuple(row[name] for name in names) for row in schema_file.rows("foreign_keys")}
    keys = {(t.name, "+".join(k.columns), k.primary) for t in schema.tables.values() for k in t.keys}
    assert keys == {
        (row["sql_table"], row["columns"], row["kind"] == "primary key") for row in schema_file.rows("keys")
    }
    labels = [{"type": name, "label": label} for name, each in schema.enums.items() for label in each]
    assert labels == schema_file.rows("enums")


def test_schema_file_is_what_the_facts_give() -> None:
    written = schema_file.TARGET.read_text("utf-8")
    assert written.count("\ntable ") == 143
    assert written.count(" -> ") == 284 + 1  # one in the head, which describes the form
    if HAVE_FACTS:
        assert written == schema_file.render()
