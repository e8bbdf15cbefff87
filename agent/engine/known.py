"""What is known to be here already, since a bundle that holds it was restored here, or made here, and nobody has
touched it since.

A restore that ends notes which of its entries are here row for row, and how their tables stand
(:mod:`agent.database.untouched`). When the next bundle of the business comes, rows that both bundles have need not be
staged and compared where the tables still stand so (:mod:`agent.engine.sifting`). A backup notes how its tables stand,
and which frames hold the rows of which part of them: the next one need not read these (:mod:`agent.engine.again`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.database.untouched import Mark

if TYPE_CHECKING:
    from protocol.base import Base
    from protocol.delta import News
    from protocol.manifest import Manifest

_NAMES = ("bundle_id", "manifest", "content", "schema")


@dataclass(frozen=True, slots=True)
class PartFrames:
    """Which frames of a bundle hold the rows of each part of a table.

    ``pages`` is the size of a part, ``file`` tells in which files they were (``Place.file``). Of each part the number
    of its rows, those of other businesses included; the first of the frames that hold the rows of the bundle, and how
    many they are.
    """

    file: str
    pages: int
    parts: tuple[tuple[int, int, int], ...]

    def as_list(self) -> list[Any]:
        """Plain values, for JSON."""
        return [self.file, self.pages, [list(part) for part in self.parts]]

    @classmethod
    def of(cls, plain: list[Any]) -> PartFrames:
        """What :meth:`as_list` gave. Raises ``ValueError`` or ``TypeError`` for other things."""
        file, pages, parts = plain
        return cls(str(file), int(pages), tuple((int(rows), int(first), int(count)) for rows, first, count in parts))


@dataclass(frozen=True, slots=True)
class Known:
    """Which entries of a bundle are here: for each table how its rows are told apart and compared.

    ``content`` and ``manifest`` name the bundle's rows and what they mean, ``schema`` this database's. ``parts`` has
    those tables of a bundle that was made here of which each row tells by itself whether it is in.
    """

    bundle_id: str
    manifest: str
    content: str
    schema: str
    tables: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    mark: Mark
    parts: Mapping[str, PartFrames] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in _NAMES},
            "tables": {name: [list(columns) for columns in both] for name, both in self.tables.items()},
            "mark": self.mark.as_list(),
            "parts": {name: parts.as_list() for name, parts in self.parts.items()},
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Known:
        """What :meth:`as_dict` gave. Raises ``KeyError``, ``ValueError``, ``TypeError`` or ``AttributeError`` for other
        things."""
        tables = {str(name): (tuple(first), tuple(second)) for name, (first, second) in plain["tables"].items()}
        bundle_id, manifest, content, schema = (str(plain[name]) for name in _NAMES)
        parts = {str(name): PartFrames.of(found) for name, found in plain["parts"].items()}
        return cls(bundle_id, manifest, content, schema, tables, Mark.of(plain["mark"]), parts)


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
