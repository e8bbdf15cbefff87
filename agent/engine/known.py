"""What is known to be here already, since a bundle that holds it was restored here and nobody has touched it since.

A restore that ends notes which of its entries are here row for row, and how their tables stand
(:mod:`agent.database.untouched`). When the next bundle of the business comes, rows that both bundles have need not be
staged and compared where the tables still stand so (:mod:`agent.engine.sifting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.database.untouched import Mark

if TYPE_CHECKING:
    from protocol.base import Base
    from protocol.delta import News
    from protocol.manifest import Manifest

_NAMES = ("bundle_id", "manifest", "content", "schema")


@dataclass(frozen=True, slots=True)
class Known:
    """Which entries of a bundle are here: for each table how its rows are told apart and compared.

    ``content`` and ``manifest`` name the bundle's rows and what they mean, ``schema`` this database's.
    """

    bundle_id: str
    manifest: str
    content: str
    schema: str
    tables: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    mark: Mark

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in _NAMES},
            "tables": {name: [list(columns) for columns in both] for name, both in self.tables.items()},
            "mark": self.mark.as_list(),
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Known:
        """What :meth:`as_dict` gave. Raises ``KeyError``, ``ValueError``, ``TypeError`` or ``AttributeError`` for other
        things."""
        tables = {str(name): (tuple(first), tuple(second)) for name, (first, second) in plain["tables"].items()}
        bundle_id, manifest, content, schema = (str(plain[name]) for name in _NAMES)
        return cls(bundle_id, manifest, content, schema, tables, Mark.of(plain["mark"]))


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known, and the bundle that it speaks of; ``news`` is what was learned of the next one as it came."""

    known: Known
    base: Base
    news: News | None = None

    def told(self, news: News | None) -> Earlier:
        """The same with the news, if they are of the same bundle."""
        return replace(self, news=news) if news is not None and news.content == self.known.content else self

    @property
    def manifest(self) -> Manifest | None:
        """The bundle's manifest; None where it is not, frame by frame, the bundle that was noted."""
        found, known = self.base.manifest, self.known
        same = found is not None and (found.digest().hex(), self.base.content) == (known.manifest, known.content)
        return found if same else None
