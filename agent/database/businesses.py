"""The businesses of a database, and which of them a person means."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import asyncpg

from agent.database.names import qualified, quote
from agent.database.reflect import reflect
from agent.tables.catalogue import Catalogue
from agent.tables.infer import Classification, require_businesses
from agent.tables.schema import Schema
from protocol.names import slug


@dataclass(frozen=True, slots=True)
class Business:
    """A business: its id as text, its names (the first is shown), whether it is a demo."""

    id: str
    names: tuple[str, ...]
    is_demo: bool

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.id

    @property
    def slug(self) -> str:
        return slug(self.name)


class BusinessError(Exception):
    """Root of what can be wrong with a business that somebody named."""

    code = "business"
    hint = "`backroom businesses` lists them."


class NoSuchBusiness(BusinessError):
    code = "no-such-business"


class AmbiguousBusiness(BusinessError):
    code = "ambiguous-business"
    hint = "Name it by its id."


async def businesses_of(connection: asyncpg.Connection, catalogue: Catalogue) -> tuple[Business, ...]:
    """All businesses, sorted by name and id, by a look at their table alone. Raises :class:`NoBusinesses`."""
    schema = await reflect(connection, [catalogue.businesses])
    require_businesses(schema, catalogue)
    return await list_businesses(connection, schema, catalogue)


async def list_businesses(
    connection: asyncpg.Connection, schema: Schema, settings: Classification | Catalogue
) -> tuple[Business, ...]:
    """All businesses, sorted by name and id."""
    table = schema.tables[settings.businesses]
    primary = table.primary_key
    if primary is None or len(primary.columns) != 1:
        raise BusinessError(f"The table {table.name} has no primary key of one column.")
    labels = [label for label in settings.labels if table.column(label)]
    texts = ", ".join(f"{quote(label)}::text" for label in labels)
    demo = table.column(settings.demo)
    rows = await connection.fetch(
        f"SELECT {quote(primary.columns[0])}::text AS id, ARRAY[{texts}]::text[] AS names, "
        f"{f'coalesce({quote(demo.name)}::boolean, false)' if demo else 'false'} AS demo FROM {qualified(table)}"
    )
    found = [Business(row["id"], tuple(name for name in row["names"] if name), row["demo"]) for row in rows]
    return tuple(sorted(found, key=lambda business: (business.name.casefold(), business.id)))


def find_business(businesses: tuple[Business, ...], wanted: str) -> Business:
    """The business that ``wanted`` means: its id, else a name or slug of it, whatever the case.

    Raises :class:`NoSuchBusiness` (with the nearest names) or :class:`AmbiguousBusiness` (with the candidates).
    """
    for business in businesses:
        if business.id == wanted:
            return business
    folded = wanted.strip().casefold()
    by_name = [b for b in businesses if folded in {name.strip().casefold() for name in b.names}]
    found = by_name or [b for b in businesses if folded and folded in {slug(name) for name in b.names}]
    if len(found) == 1:
        return found[0]
    if found:
        candidates = "; ".join(f"{business.name} ({business.id})" for business in found)
        raise AmbiguousBusiness(f"{wanted!r} may be any of {len(found)} businesses: {candidates}.")
    names = [business.name for business in businesses]
    near = difflib.get_close_matches(wanted, names, n=3)
    also = f" Did you mean {' or '.join(near)}?" if near else ""
    raise NoSuchBusiness(f"There is no business {wanted!r} in this database.{also}")
