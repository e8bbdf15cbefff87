"""Schema values written short, for tests of the pure code."""

from __future__ import annotations

from agent.tables.schema import Column, ForeignKey, Schema, Table, UniqueKey


def table(name: str, columns: str, *links: str, key: str = "id", namespace: str = "public") -> Table:
    """``columns`` like ``"id! note total:numeric!"`` (text unless told, ``!`` required), ``links`` like
    ``"orderId -> orders.id"``."""
    made = []
    for each in columns.split():
        required = each.endswith("!")
        column, _, kind = each.removesuffix("!").partition(":")
        made.append(Column(column, kind or "text", not_null=required))
    keys = (UniqueKey(f"{name}_pkey", tuple(key.split("+")), primary=True),) if key else ()
    return Table(name, namespace, tuple(made), keys, tuple(_link(name, link) for link in links))


def _link(name: str, text: str) -> ForeignKey:
    columns, _, target = text.partition(" -> ")
    parent, _, theirs = target.partition(".")
    return ForeignKey(f"{name}_{columns}_fkey", tuple(columns.split("+")), parent, tuple(theirs.split("+")))


def schema(*tables: Table) -> Schema:
    """A schema of these tables and ``businesses`` and ``users``, unless they are among them."""
    known = {each.name: each for each in tables}
    known.setdefault("businesses", table("businesses", "id! name createdBy", "createdBy -> users.id"))
    known.setdefault("users", table("users", "id! email!"))
    return Schema(known)
