"""The platform's 143 tables as DDL, from the compact facts in ``platform_schema.txt`` (its head describes the form)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

_TYPES = {
    "time": "timestamp(3) without time zone",
    "int": "integer",
    "bool": "boolean",
    "float8": "double precision",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: ``columns`` point at ``target_columns`` of ``target``, pairwise."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str
    on_update: str


@dataclass(frozen=True, slots=True)
class DemoColumn:
    """A column; ``type`` and ``default`` are SQL."""

    name: str
    type: str
    required: bool
    default: str | None

    @property
    def sql(self) -> str:
        default = f" DEFAULT {self.default}" if self.default else ""
        return f"{_quoted(self.name)} {self.type}{' NOT NULL' if self.required else ''}{default}"


@dataclass(slots=True)
class DemoTable:
    """A table of the demo's schema."""

    name: str
    columns: dict[str, DemoColumn] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    unique_keys: list[tuple[str, ...]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DemoSchema:
    """Everything in the file: tables and enum types (name to labels, in order)."""

    tables: Mapping[str, DemoTable]
    enums: Mapping[str, tuple[str, ...]]


@cache
def demo_schema() -> DemoSchema:
    """The parsed file. Treat it as frozen: it is shared."""
    tables: dict[str, DemoTable] = {}
    enums: dict[str, tuple[str, ...]] = {}
    table = DemoTable("")
    text = files("agent.demo").joinpath("platform_schema.txt").read_text("utf-8")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "enum":
            name, _, labels = rest.partition(": ")
            enums[name] = tuple(labels.split())
        elif word == "table":
            table = tables[rest] = DemoTable(rest)
        elif word == "primary":
            table.primary_key = tuple(rest.split("+"))
        elif word == "unique":
            table.unique_keys.append(tuple(rest.split("+")))
        elif rest.startswith("-> "):
            table.references.append(_reference(word, rest.removeprefix("-> ")))
        else:
            for part in line.strip().removesuffix(" |").split(" | "):
                column = _column(part)
                table.columns[column.name] = column
    return DemoSchema(tables, enums)


def schema_sql() -> list[str]:
    """The statements that make the schema in an empty database: types, tables, unique indexes, foreign keys."""
    schema = demo_schema()
    statements = [
        f"CREATE TYPE {_quoted(name)} AS ENUM ({', '.join(repr(label) for label in labels)})"
        for name, labels in schema.enums.items()
    ]
    for table in schema.tables.values():
        lines = [column.sql for column in table.columns.values()]
        lines.append(f"CONSTRAINT {_quoted(table.name + '_pkey')} PRIMARY KEY ({_list(table.primary_key)})")
        statements.append(f"CREATE TABLE {_quoted(table.name)} ({', '.join(lines)})")
        statements += [
            f"CREATE UNIQUE INDEX {_quoted('_'.join((table.name, *key, 'key')))} "
            f"ON {_quoted(table.name)} ({_list(key)})"
            for key in table.unique_keys
        ]
    for table in schema.tables.values():
        if table.references:
            added = ", ".join(f"ADD {constraint_sql(table.name, reference)}" for reference in table.references)
            statements.append(f"ALTER TABLE {_quoted(table.name)} {added}")
    return statements


def constraint_name(table: str, reference: Reference) -> str:
    """The name of a foreign key of ``table``, as Prisma would give it."""
    return "_".join((table, *reference.columns, "fkey"))


def constraint_sql(table: str, reference: Reference) -> str:
    """``CONSTRAINT name FOREIGN KEY ...`` for a foreign key of ``table``."""
    return (
        f"CONSTRAINT {_quoted(constraint_name(table, reference))} "
        f"FOREIGN KEY ({_list(reference.columns)}) "
        f"REFERENCES {_quoted(reference.target)} ({_list(reference.target_columns)}) "
        f"ON DELETE {reference.on_delete.upper()} ON UPDATE {reference.on_update.upper()}"
    )


def _column(text: str) -> DemoColumn:
    declared, _, default = text.partition(" = ")
    name, _, kind = declared.partition(" ")
    required = kind.endswith("!")
    kind = kind.removesuffix("!")
    return DemoColumn(
        name, _TYPES.get(kind, kind), required, "CURRENT_TIMESTAMP" if default == "now" else default or None
    )


def _reference(columns: str, rest: str) -> Reference:
    where, _, actions = rest.partition(" ")
    target, _, target_columns = where.partition(".")
    on_delete, _, on_update = actions.partition(" / ")
    return Reference(
        tuple(columns.split("+")), target, tuple(target_columns.split("+")), on_delete, on_update or "cascade"
    )


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
