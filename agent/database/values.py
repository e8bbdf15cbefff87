"""Values made up for a column: such as no row has."""

from __future__ import annotations

from agent.database.names import quote
from agent.tables.fit import TypeText
from agent.tables.schema import Column

INTEGERS = {"smallint", "integer", "bigint"}
_LONGEST = 40


def free_value(column: Column, seed: str, relation: str, number: str) -> str:
    """SQL: a value that no row of ``relation`` has in ``column``, from a ``seed`` (SQL of a text that differs by row)
    or a running ``number``. "" where the type has none that can be made up.
    """
    kind = TypeText.parse(column.type)
    if kind.array or column.enum:
        return ""
    if kind.base in {"text", "character varying", "character"}:
        room = kind.arguments[0] if kind.arguments else _LONGEST
        return f"left('~' || md5('backroom' || {seed}), {room})"
    if kind.base == "uuid":
        return f"md5('backroom' || {seed})::uuid"
    if kind.base in INTEGERS or kind.base == "numeric":
        return f"(SELECT least(min(x.{quote(column.name)}), 0) FROM {relation} x) - {number}"
    return ""
