"""SQL that tells whose a row is, from the row itself: the independent word beside the walk of ``agent.database.scope``.

``theirs`` is true for a row that belongs to a business which is not among the chosen ones, ``ours`` for one that
belongs to a chosen business. A row that belongs to nobody, or is shared by all, is neither.
"""

from __future__ import annotations

from agent.database.names import literal, qualified, quote
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from agent.tables.scope import NeedEdge, TravelEdge, travel_edges

NEVER = "false"


class Ownership:
    """Builds the expressions for one schema and the chosen businesses: those ``listed`` (ids as text, at least one),
    or with ``all_but`` all others.
    """

    def __init__(
        self, schema: Schema, classification: Classification, listed: tuple[str, ...], *, all_but: bool = False
    ) -> None:
        self._schema = schema
        self._classification = classification
        self._listed = ", ".join(literal(identifier) for identifier in listed)
        self._all_but = all_but
        self._businesses = classification.businesses
        self._known: dict[tuple[str, str, bool], str] = {}

    @property
    def all_but(self) -> bool:
        """Whether all businesses but some are chosen."""
        return self._all_but

    def theirs(self, table: str, alias: str) -> str:
        """Boolean SQL over the row ``alias`` of ``table``; never NULL."""
        return self._said(table, alias, False)

    def ours(self, table: str, alias: str) -> str:
        """Boolean SQL over the row ``alias`` of ``table``; never NULL."""
        return self._said(table, alias, True)

    def own(self, table: str, alias: str) -> str:
        """The rows with which a backup begins: those that are ours, or where all but some businesses are chosen every
        row that is not theirs. Boolean SQL, never NULL."""
        return f"(NOT {self.theirs(table, alias)})" if self._all_but else self.ours(table, alias)

    def settles(self, edge: NeedEdge) -> bool:
        """Whether an own row refers by this edge to own rows alone, because the edge is what makes it own: the first
        column that it travels with."""
        rule = self._classification.rule(edge.child)
        if edge.child == self._businesses or rule.common or rule.owners:
            return False
        first = next(iter(travel_edges(edge.child, self._schema, self._classification)), None)
        return first is not None and (
            (first.column,) == edge.columns
            and first.parent == edge.parent
            and (first.parent_column,) == edge.parent_columns
        )

    def _said(self, table: str, alias: str, ours: bool) -> str:
        key = table, alias, ours
        if key not in self._known:
            self._known[key] = self._whose(table, alias, ours, ())
        return self._known[key]

    def _whose(self, table: str, alias: str, ours: bool, path: tuple[str, ...]) -> str:
        if table == self._businesses:
            primary = self._schema.tables[table].primary_key
            assert primary is not None
            return self._among(table, primary.columns[0], alias, ours)
        rule = self._classification.rule(table)
        if rule.common or table in path:
            return NEVER
        edges = travel_edges(table, self._schema, self._classification)
        path = (*path, table)
        if rule.owners:
            any_ours = self._any(edges, alias, True, path)
            if ours:
                return any_ours
            any_theirs = self._any(edges, alias, False, path)
            return NEVER if any_theirs == NEVER else f"({any_theirs} AND NOT {any_ours})"
        # The first column that is set decides. No CASE, and nothing about columns that are always set: so the planner
        # can join and use indexes.
        verdicts: list[str] = []
        unset: list[str] = []
        for edge in edges:
            verdict = self._parent(edge, alias, ours, path)
            if verdict != NEVER:
                verdicts.append(" AND ".join([*unset, verdict]))
            if self._required(table, edge.column):
                break
            unset.append(f"{alias}.{quote(edge.column)} IS NULL")
        return _either(verdicts)

    def _any(self, edges: tuple[TravelEdge, ...], alias: str, ours: bool, path: tuple[str, ...]) -> str:
        verdicts = (self._parent(edge, alias, ours, path) for edge in edges)
        return _either([verdict for verdict in verdicts if verdict != NEVER])

    def _parent(self, edge: TravelEdge, alias: str, ours: bool, path: tuple[str, ...]) -> str:
        primary = self._schema.tables[self._businesses].primary_key
        if edge.parent == self._businesses and primary and primary.columns == (edge.parent_column,):
            return self._among(edge.child, edge.column, alias, ours)
        above = f"{alias}_{len(path)}"
        verdict = self._whose(edge.parent, above, ours, path)
        if verdict == NEVER:
            return NEVER
        parent = qualified(self._schema.tables[edge.parent])
        column = f"{alias}.{quote(edge.column)}"
        return (
            f"EXISTS (SELECT FROM {parent} {above} WHERE {above}.{quote(edge.parent_column)} = {column} AND {verdict})"
        )

    def _among(self, table: str, name: str, alias: str, ours: bool) -> str:
        # A business column without a foreign key may name a business that does not exist: chosen by name it is not
        # ours, so it counts as theirs; where all but some are chosen it is in.
        column = f"{alias}.{quote(name)}"
        among = f"{column} {'IN' if ours != self._all_but else 'NOT IN'} ({self._listed})"
        return f"({among})" if self._required(table, name) else f"({column} IS NOT NULL AND {among})"

    def _required(self, table: str, column: str) -> bool:
        found = self._schema.tables[table].column(column)
        return found is not None and found.not_null


def _either(verdicts: list[str]) -> str:
    return f"({' OR '.join(verdicts)})" if verdicts else NEVER
