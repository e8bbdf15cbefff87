"""Values that describe a live database's schema (DESIGN section 3). Pure: filled by ``agent.database.reflect``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    ``type`` is PostgreSQL's own text for it (``format_type``: ``numeric(10,2)``, ``"OrderStatus"``, ``text[]``).
    ``enum`` names the enum type behind it, also for an array of one. ``identity`` is ``""``, ``"a"`` (always) or
    ``"d"`` (by default). A ``generated`` column is computed by the database and never travels. ``sequence`` is the
    sequence that feeds it (serial and identity columns), quoted and ready for ``::regclass``.
    """

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    identity: str = ""
    generated: bool = False
    enum: str | None = None
    sequence: str | None = None

    @property
    def fills_itself(self) -> bool:
        """Whether a row may be inserted without a value for this column."""
        return not self.not_null or self.default is not None or bool(self.identity) or self.generated


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A primary key, unique constraint or unique index.

    ``columns`` is empty where an expression takes part; ``definition`` is ``pg_get_indexdef`` and always there.
    ``predicate`` is the WHERE of a partial index. A ``deferrable`` one cannot arbitrate ``ON CONFLICT``.
    """

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    nulls_not_distinct: bool = False
    predicate: str | None = None
    definition: str = ""
    deferrable: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is made of whole columns over all rows."""
        return bool(self.columns) and self.predicate is None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; ``columns`` of the table point at ``references_columns`` of ``references``, pairwise."""

    name: str
    columns: tuple[str, ...]
    references: str
    references_columns: tuple[str, ...]
    on_delete: str = "no action"
    on_update: str = "no action"
    deferrable: bool = False

    @property
    def acts(self) -> bool:
        """Whether PostgreSQL itself deletes or changes rows that refer to one that goes."""
        return self.on_delete not in ("no action", "restrict")


@dataclass(frozen=True, slots=True)
class Table:
    """One table, visible on the ``search_path``. ``namespace`` is its PostgreSQL schema; ``name`` its SQL name.

    ``owned`` tells whether the database user owns it, ``readable`` whether it may SELECT from it.
    """

    name: str
    namespace: str
    columns: tuple[Column, ...]
    keys: tuple[UniqueKey, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    owned: bool = True
    readable: bool = True
    estimated_rows: int = 0

    @property
    def primary_key(self) -> UniqueKey | None:
        return next((key for key in self.keys if key.primary), None)

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that tell rows apart: the primary key, else a plain unique key of required columns, else ().

        All of them travel: a key over a generated column does not count.
        """
        required = {column.name for column in self.stored_columns if column.not_null}
        for key in sorted(self.keys, key=lambda key: (not key.primary, len(key.columns), key.name)):
            if key.plain and set(key.columns) <= required:
                return key.columns
        return ()

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The columns that travel: all but generated ones."""
        return tuple(column for column in self.columns if not column.generated)

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def foreign_key_of(self, column: str) -> ForeignKey | None:
        """The foreign key that this column makes alone."""
        return next((key for key in self.foreign_keys if key.columns == (column,)), None)


def comparable(one: str, other: str) -> bool:
    """Whether values of two types (PostgreSQL's text for them) can be joined by ``=`` as one key by the other.

    The kinds of text can, whatever their length, and the whole numbers; else the types must be the same.
    """
    return _family(one) == _family(other)


def _family(kind: str) -> str:
    if kind == "text" or (kind.startswith("character varying") and not kind.endswith("[]")):
        return "text"
    return "integer" if kind in {"smallint", "integer", "bigint"} else kind


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables and enum types of one database. ``enums`` maps a type's name to its labels, in order."""

    tables: Mapping[str, Table]
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _fingerprints: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def fingerprint(self) -> str:
        """Hex SHA-256 over what decides whether rows fit: tables, columns with types and nullability, keys, enums.

        Names of constraints, ownership and row estimates do not count: they differ between equal laptops.
        """
        if not self._fingerprints:
            self._fingerprints.append(self._fingerprint())
        return self._fingerprints[0]

    def dragged_along(self, names: Collection[str]) -> tuple[Table, ...]:
        """The tables, by name, of which PostgreSQL itself deletes or changes rows when others go that they refer to, in
        the tables ``names``; those of them that the database user owns, and so may hold."""
        return tuple(
            table
            for _, table in sorted(self.tables.items())
            if table.owned and any(key.acts and key.references in names for key in table.foreign_keys)
        )

    def _fingerprint(self) -> str:
        shape = {
            "tables": {
                name: {
                    "columns": sorted([c.name, c.type, c.not_null, c.generated] for c in table.columns),
                    "keys": sorted([list(k.columns), k.primary, k.predicate or ""] for k in table.keys),
                    "foreign_keys": sorted(
                        [list(f.columns), f.references, list(f.references_columns)] for f in table.foreign_keys
                    ),
                }
                for name, table in self.tables.items()
            },
            "enums": {name: list(labels) for name, labels in self.enums.items()},
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "tables": {name: asdict(table) for name, table in self.tables.items()},
            "enums": {name: list(labels) for name, labels in self.enums.items()},
        }
