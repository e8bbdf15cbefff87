"""What of a table two sides can compare: the columns that both have, what tells rows apart, when a row was changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.database.digests import Question

_NUMERIC = "numeric"
_STAMPED = re.compile(r"(.*),(?:\"([^\"]*)\"|([^\",()]*))\)", re.DOTALL)
"""PostgreSQL's text of a row whose last column is a timestamp: its key, and the timestamp (quoted for its space)."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table as one side has it: its columns with their types, and the key.

    ``local`` are the columns that do not count: references into device tables that may be empty differ between
    laptops by design. ``stamp`` is the column that says when a row was changed last, if this side knows of one.
    """

    table: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    local: frozenset[str] = frozenset()
    stamp: str | None = None


def ask(ours: Mapping[str, TableShape], theirs: Mapping[str, TableShape]) -> tuple[list[Question], list[str]]:
    """The questions about tables that both sides have, in name order, and notes on columns that only one has."""
    questions, notes = [], []
    for name in sorted(set(ours) & set(theirs)):
        here, there = ours[name].columns, theirs[name].columns
        local = ours[name].local | theirs[name].local
        common = tuple(sorted((set(here) & set(there)) - local))
        lonely = sorted((set(here) ^ set(there)) - local)
        if lonely:
            notes.append(f"Only one side has {name}.{', '.join(lonely)}; not compared.")
        if not common:
            continue
        key = next(
            (shape.key for shape in (ours[name], theirs[name]) if shape.key and set(shape.key) <= set(common)), ()
        )
        numbers = tuple(
            column
            for column in common
            if here[column] != there[column] and _is_number(here[column]) and _is_number(there[column])
        )
        questions.append(Question(name, common, key, numbers))
    return questions, notes


def _is_number(type_text: str) -> bool:
    return type_text.startswith(_NUMERIC) and not type_text.endswith("[]")


def stamp_of(question: Question, *shapes: TableShape) -> str | None:
    """The column by whose value both sides can tell which row is newer; None where there is none."""
    name = next((shape.stamp for shape in shapes if shape.stamp), None)
    if name is None or not question.key or name not in question.columns or name in question.key:
        return None
    return name if len({shape.columns[name] for shape in shapes}) == 1 else None


def split_key(key: str, stamp: str | None) -> tuple[str, str]:
    """The key of a row without the time that was asked for beside it, and that time as text ("" for none).

    PostgreSQL's text of times sorts as the times do.
    """
    if stamp is None:
        return key, ""
    parts = _STAMPED.fullmatch(key)
    assert parts is not None, key
    return f"{parts[1]})", parts[2] or parts[3] or ""
