"""Random schemas of tables that no catalogue knows, with random rows: what property tests of the scope run on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from agent.database.names import quote

NAMES = ("alpha", 'be"ta', "Gamma Ray", "delta", "select", "ζeta", "eta", "theta")


@dataclass(frozen=True)
class Link:
    """A foreign key: ``columns`` of a table point at ``target_columns`` of ``target``."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    required: bool


@dataclass
class RandomTable:
    """A table: ``key`` is one of "id", "pair" (two columns) and "none"; ``plain`` are columns without a foreign key."""

    name: str
    key: str
    links: list[Link] = field(default_factory=list)
    plain: dict[str, bool] = field(default_factory=dict)

    @property
    def unique(self) -> tuple[str, ...]:
        return {"id": ("id",), "pair": ("no", "part"), "none": ()}[self.key]


def random_tables(rng: random.Random) -> list[RandomTable]:
    """Two to eight tables beside ``businesses``, which comes first. Required references point at earlier tables."""
    tables = [RandomTable("businesses", "id")]
    if rng.random() < 0.4:
        tables[0].links.append(Link(("umbrella",), "businesses", ("id",), required=False))
    for name in NAMES[: rng.randint(2, len(NAMES))]:
        table = RandomTable(name, rng.choices(["id", "pair", "none"], [6, 2, 2])[0])
        match rng.choices(["none", "key", "loose", "two", "code"], [5, 4, 2, 2, 1])[0]:
            case "key":
                table.links.append(Link(("businessId",), "businesses", ("id",), rng.random() < 0.5))
            case "loose":
                table.plain["businessId"] = rng.random() < 0.5
            case "two":
                required = rng.random() < 0.5
                table.links.append(Link(("lender",), "businesses", ("id",), required))
                table.links.append(Link(("borrower",), "businesses", ("id",), required))
            case "code":
                table.links.append(Link(("shopCode",), "businesses", ("code",), rng.random() < 0.5))
        tables.append(table)
    for place, table in enumerate(tables[1:], 1):
        for number in range(rng.randint(0, 3)):
            position = rng.randrange(len(tables))
            target = tables[position]
            if not target.unique or (position == 0 and rng.random() < 0.7):
                continue
            columns = tuple(f"to{number}{part}" for part in target.unique)
            table.links.append(Link(columns, target.name, target.unique, position < place and rng.random() < 0.6))
    if rng.random() < 0.5:
        early = rng.choice(tables)
        late = rng.choice([table for table in tables if table.key == "id"])
        early.links.append(Link(("back",), late.name, ("id",), required=False))
    return tables


def random_rules(rng: random.Random, tables: list[RandomTable]) -> str:
    """A ``tables.toml`` that says something of some of the tables, or nothing."""
    lines = ["[[group]]", 'class = "business"', "[group.tables]"]
    for table in tables[1:]:
        columns = [link.columns[0] for link in table.links if len(link.columns) == 1 and link.target != table.name]
        earlier = {link.columns[0] for link in table.links if link.required}
        kind = rng.choices(["", "whole", "common", "shared", "travels", "owners"], [8, 1, 1, 1, 1, 1])[0]
        match kind:
            case "whole":
                lines.append(f"'{table.name}' = {{ whole = true }}")
            case "common" if "businessId" in columns:
                lines.append(f"'{table.name}' = {{ travels_with = ['businessId'], common = true }}")
            case "shared":
                lines.append(f"'{table.name}' = {{ }}")
            case "travels" | "owners":
                chosen = [column for column in columns if column in earlier]
                setting = "travels_with" if kind == "travels" else "owners"
                if chosen:
                    lines.append(f"'{table.name}' = {{ {setting} = {chosen} }}")
    return "\n".join(lines)


async def build(connection: Any, rng: random.Random, tables: list[RandomTable]) -> None:
    """Make the tables and fill them."""
    for table in tables:
        lines = ['"note" text']
        lines += ['"name" text, "code" integer NOT NULL UNIQUE'] if table.name == "businesses" else []
        lines += [f"{quote(column)} integer NOT NULL" for column in table.unique]
        lines += [f"{quote(name)} integer{' NOT NULL' if required else ''}" for name, required in table.plain.items()]
        for link in table.links:
            lines += [f"{quote(column)} integer{' NOT NULL' if link.required else ''}" for column in link.columns]
        if table.unique:
            lines.append(f"PRIMARY KEY ({', '.join(map(quote, table.unique))})")
        await connection.execute(f"CREATE TABLE {quote(table.name)} ({', '.join(lines)})")
    rows: dict[str, list[dict[str, int]]] = {table.name: [] for table in tables}
    for table in tables:
        for number in range(3 if table.name == "businesses" else rng.randint(0, 8)):
            await _insert(connection, rng, table, number, rows)
    for table in tables:
        for link in table.links:
            await connection.execute(
                f"ALTER TABLE {quote(table.name)} ADD FOREIGN KEY ({', '.join(map(quote, link.columns))}) "
                f"REFERENCES {quote(link.target)} ({', '.join(map(quote, link.target_columns))})"
            )
            if link.required or not rows[link.target]:
                continue
            for note in await connection.fetch(f"SELECT note FROM {quote(table.name)}"):
                if rng.random() < 0.6:
                    target = rng.choice(rows[link.target])
                    pairs = zip(link.columns, link.target_columns, strict=True)
                    sets = ", ".join(f"{quote(column)} = {target[theirs]}" for column, theirs in pairs)
                    await connection.execute(f"UPDATE {quote(table.name)} SET {sets} WHERE note = $1", note["note"])


async def _insert(
    connection: Any, rng: random.Random, table: RandomTable, number: int, rows: dict[str, list[dict[str, int]]]
) -> None:
    row = {column: number * 10 + place for place, column in enumerate(table.unique)}
    if table.name == "businesses":
        row["code"] = 500 - number
    for name, required in table.plain.items():
        if required or rng.random() < 0.7:
            row[name] = rng.choice([0, 10, 20, 20, 77])
    for link in table.links:
        if link.required:
            if not rows[link.target]:
                return
            target = rng.choice(rows[link.target])
            row.update(
                {column: target[theirs] for column, theirs in zip(link.columns, link.target_columns, strict=True)}
            )
    rows[table.name].append(row)
    names = ["note", *row]
    values = ", ".join(f"${place}" for place, _ in enumerate(names, 1))
    await connection.execute(
        f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))}) VALUES ({values})",
        f"{table.name}\t{number}\\N",
        *row.values(),
    )
