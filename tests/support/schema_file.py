"""Writes ``agent/demo/platform_schema.txt`` from the CSV facts of the plan: ``python -m tests.support.schema_file``.

Run once, and again when the facts change; nothing needs the CSV files at run time.
"""

from __future__ import annotations

import csv
import re
import textwrap
from collections import defaultdict
from pathlib import Path

FACTS = Path("/work/shared/platform")
TARGET = Path(__file__).parents[2] / "agent" / "demo" / "platform_schema.txt"
HEADER = """\
# The tables of the business platform beside which Backroom runs, as facts. Read by agent/demo/schema.py:
#   enum NAME: LABEL LABEL...
#   table NAME
#     COLUMN TYPE[!][ = DEFAULT] | ...     ("!" is NOT NULL; "time" is timestamp(3) without zone, "now" its default)
#     primary COLUMN+COLUMN...             unique COLUMN+COLUMN...
#     COLUMN+... -> TABLE.COLUMN+... ON DELETE[ / ON UPDATE, where it is not cascade]
"""
_SHORT = {
    "timestamp(3) without time zone": "time",
    "integer": "int",
    "boolean": "bool",
    "character varying": "varchar",
    "double precision": "float8",
}


def rows(name: str, folder: Path = FACTS) -> list[dict[str, str]]:
    """The rows of one CSV file of facts."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _type(text: str) -> str:
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return text


def _default(text: str) -> str:
    literal = re.fullmatch(r"('(?:[^']|'')*')::.*", text)
    return " = " + (literal[1] if literal else "now" if text == "CURRENT_TIMESTAMP" else text)


def render(folder: Path = FACTS) -> str:
    """The text of the schema file for the facts in ``folder``."""
    enums, tables = defaultdict(list), defaultdict(list)
    for row in rows("enums", folder):
        enums[row["type"]].append(row["label"])
    for row in rows("columns", folder):
        required = "!" if row["nullable"] == "no" else ""
        default = _default(row["default"]) if row["default"] else ""
        tables[row["sql_table"]].append(f"{row['column']} {_type(row['type'])}{required}{default}")
    lines = defaultdict(list)
    for row in rows("keys", folder):
        lines[row["sql_table"]].append(f"{row['kind'].split()[0]} {row['columns']}")
    for row in rows("foreign_keys", folder):
        update = "" if row["on_update"] == "cascade" else f" / {row['on_update']}"
        target = f"{row['references_table']}.{row['references_columns']}"
        lines[row["sql_table"]].append(f"{row['columns']} -> {target} {row['on_delete']}{update}")
    text = HEADER
    for name, labels in enums.items():
        text += f"enum {name}: {' '.join(labels)}\n"
    for name, columns in tables.items():
        packed = textwrap.wrap(
            "\0| ".join(each.replace(" ", "\0") for each in columns),
            118,
            break_long_words=False,
            break_on_hyphens=False,
        )
        text += f"table {name}\n"
        text += "".join(f"  {line}\n".replace("\0", " ") for line in packed)
        text += "".join(f"  {line}\n" for line in lines[name])
    return text


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
