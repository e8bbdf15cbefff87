"""SQL that tells whose a row is, from the row itself: the independent word beside the walk of ``agent.database.scope``.

``theirs`` is true for a row that belongs to a business which is not among the chosen ones, ``ours`` for one that
belongs to a chosen business. A row that belongs to nobody, or is shared by all, is neither.
"""

from __future__ import annotations

from agent.database.names import literal, qualified, quote
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from agent.tables.scope import TravelEdge, travel_edges

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

    def theirs(self, table: str, alias: str) -> str:
        """Boolean SQL over the row ``alias`` of ``table``; never NULL."""
        return self._whose(table, alias, False, ())

    def ours(self, table: str, alias: str) -> str:
        """Boolean SQL over the row ``alias`` of ``table``; never NULL."""
        return self._whose(table, alias, True, ())

    def _whose(self, table: str, alias: str, ours: bool, path: tuple[str, ...]) -> str:
        if table == self._businesses:
            primary = self._schema.tables[table].primary_key
            assert primary is not None
            return self._among(f"{alias}.{quote(primary.columns[0])}", ours)
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
        cases = []
        for edge in edges:
            verdict = self._parent(edge, alias, ours, path)
            cases.append(f"WHEN {alias}.{quote(edge.column)} IS NOT NULL THEN {verdict}")
        while cases and cases[-1].endswith(f" THEN {NEVER}"):
            cases.pop()
        return f"CASE {' '.join(cases)} ELSE false END" if cases else NEVER

    def _any(self, edges: tuple[TravelEdge, ...], alias: str, ours: bool, path: tuple[str, ...]) -> str:
        verdicts = [self._parent(edge, alias, ours, path) for edge in edges]
        real = [
            f"({alias}.{quote(edge.column)} IS NOT NULL AND {verdict})"
            for edge, verdict in zip(edges, verdicts, strict=True)
            if verdict != NEVER
        ]
        return f"({' OR '.join(real)})" if real else NEVER

    def _parent(self, edge: TravelEdge, alias: str, ours: bool, path: tuple[str, ...]) -> str:
        column = f"{alias}.{quote(edge.column)}"
        primary = self._schema.tables[self._businesses].primary_key
        if edge.parent == self._businesses and primary and primary.columns == (edge.parent_column,):
            return self._among(column, ours)
        above = f"{alias}_{len(path)}"
        verdict = self._whose(edge.parent, above, ours, path)
        if verdict == NEVER:
            return NEVER
        parent = qualified(self._schema.tables[edge.parent])
        return (
            f"EXISTS (SELECT FROM {parent} {above} WHERE {above}.{quote(edge.parent_column)} = {column} AND {verdict})"
        )

    def _among(self, column: str, ours: bool) -> str:
        # A business column without a foreign key may name a business that does not exist: chosen by name it is not
        # ours, so it counts as theirs; where all but some are chosen it is in.
        if self._all_but:
            inside, outside = f"{column} NOT IN ({self._listed})", f"{column} IN ({self._listed})"
        else:
            inside, outside = f"{column} IN ({self._listed})", f"{column} NOT IN ({self._listed})"
        return f"coalesce({inside}, false)" if ours else f"coalesce({outside}, false)"
