"""Quoting of names. Every identifier that enters an SQL text comes from the catalog and passes through here."""

from __future__ import annotations

from collections.abc import Iterable

from agent.tables.schema import Table


def quote(name: str) -> str:
    """The identifier ``name``, quoted (PostgreSQL's rules: doubled quotes, no NUL)."""
    if "\0" in name:
        raise ValueError("a PostgreSQL name cannot hold NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as an SQL string literal that is safe whatever ``standard_conforming_strings`` says."""
    if "\0" in text:
        raise ValueError("a PostgreSQL text cannot hold NUL")
    escaped = text.replace("'", "''")
    if "\\" in escaped:
        doubled = escaped.replace("\\", "\\\\")
        return f"E'{doubled}'"
    return f"'{escaped}'"


def qualified(table: Table) -> str:
    """``"namespace"."name"`` of a table."""
    return f"{quote(table.namespace)}.{quote(table.name)}"


def column_list(names: Iterable[str], alias: str = "") -> str:
    """``"a", "b"`` or, with an alias, ``x."a", x."b"``."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + quote(name) for name in names)
