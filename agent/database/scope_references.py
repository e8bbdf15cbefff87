"""What some rows refer to, found in one pass over them."""

from __future__ import annotations

from collections.abc import Sequence

from agent.database.names import quote
from agent.database.scope import Source
from agent.tables.scope import NeedEdge


class References:
    """The distinct values of several references of some rows, found in one pass: a query, to be called ``n``."""

    def __init__(self, edges: Sequence[NeedEdge]) -> None:
        self.groups = list(dict.fromkeys(edge.columns for edge in edges))
        self._columns = list(dict.fromkeys(column for group in self.groups for column in group))

    def select(self, children: Source) -> str:
        """The query over the children ``c``: the values of each reference, told apart by ``which``, and their rows."""
        named = ", ".join(f"c.{quote(column)} AS k{place}" for place, column in enumerate(self._columns))
        groups = ", ".join(f"({', '.join(f'c.{quote(column)}' for column in group)})" for group in self.groups)
        which = ", ".join(f"c.{quote(column)}" for column in self._columns)
        return (
            f"SELECT {named}, GROUPING({which}) AS which, count(*) AS rows "
            f"FROM {children.where()} GROUP BY GROUPING SETS ({groups}, ())"
        )

    def of(self, columns: Sequence[str]) -> str:
        """Which lines of ``n`` are of this reference: in GROUPING's number a column that is not grouped by is a 1.
        Of none there is one line, of all rows.
        """
        bits = "".join("0" if column in columns else "1" for column in self._columns)
        return " AND ".join(
            [f"n.which = {int(bits, 2)}", *(f"n.{self._name(column)} IS NOT NULL" for column in columns)]
        )

    def key(self, columns: Sequence[str]) -> str:
        """The values of a reference in a line of ``n``, as text."""
        return f"ARRAY[{', '.join(f'n.{self._name(column)}::text' for column in columns)}]"

    def join(self, edge: NeedEdge, alias: str) -> str:
        """The row ``alias`` of the parent is the one that a line of ``n`` names."""
        pairs = zip(edge.columns, edge.parent_columns, strict=True)
        return " AND ".join(f"{alias}.{quote(theirs)} = n.{self._name(ours)}" for ours, theirs in pairs)

    def _name(self, column: str) -> str:
        return f"k{self._columns.index(column)}"
