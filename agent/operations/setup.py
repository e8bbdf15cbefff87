"""Setting a laptop up: its data folder, database address, name and key."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config import NotSetUpError, change, load
from agent.home import Home
from agent.operations.workspace import Workspace
from protocol.names import slug

if TYPE_CHECKING:
    from agent.tables.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class SetUp:
    """What ``init`` found and made."""

    home: str
    node_id: str
    short_id: str
    name: str
    server: str
    tables: int
    unclassified: tuple[str, ...]
    businesses: int
    new: bool

    def as_dict(self) -> dict[str, object]:
        return {
            "home": self.home,
            "node_id": self.node_id,
            "short_id": self.short_id,
            "name": self.name,
            "server": self.server,
            "tables": self.tables,
            "unclassified": list(self.unclassified),
            "businesses": self.businesses,
            "new": self.new,
        }


@dataclass(frozen=True, slots=True)
class Looked:
    """What a database is, before anything is written: ``classes`` are numbers of tables by class, ``lacking`` the
    rights that its user lacks, by table."""

    server: str
    tables: int
    classes: Mapping[str, int]
    unclassified: tuple[str, ...]
    businesses: tuple[str, ...]
    lacking: Mapping[str, tuple[str, ...]]


def default_name() -> str:
    """A name for this laptop from its host name."""
    return slug(platform.node().split(".")[0] or "laptop")


async def look_at(url: str, catalogue: Catalogue | None = None) -> Looked:
    """Look at a database with the rights of its user. Raises errors of ``agent.database`` and ``agent.tables``."""
    from agent.database.businesses import list_businesses
    from agent.database.connect import connect
    from agent.database.errors import translating
    from agent.database.reflect import reflect
    from agent.database.rights import missing_rights
    from agent.tables.catalogue import TableClass, load_catalogue
    from agent.tables.infer import classify

    connection = await connect(url, application_name="backroom: setup")
    try:
        with translating("Looking at the database"):
            schema = await reflect(connection)
            classification = classify(schema, catalogue or load_catalogue())
            businesses = await list_businesses(connection, schema, classification)
            travelling = [schema.tables[name] for name in classification.of_class(TableClass.BUSINESS)]
            lacking = await missing_rights(connection, travelling)
            version = ".".join(str(part) for part in connection.get_server_version()[:2])
    finally:
        await connection.close(timeout=5)
    return Looked(
        server=f"PostgreSQL {version}",
        tables=len(schema.tables),
        classes={each.value: len(classification.of_class(each)) for each in TableClass},
        unclassified=classification.of_class(TableClass.UNCLASSIFIED),
        businesses=tuple(each.name for each in businesses),
        lacking=lacking,
    )


async def set_up(home: Home, *, database: str | None, name: str | None, port: int | None = None) -> SetUp:
    """Check the database, then write the settings and make the device's key. Running it again changes what is given.

    Nothing is written where the database cannot be used. Raises errors of ``agent.database``, ``agent.config`` and
    ``certs``.
    """
    try:
        before = load(home)
    except NotSetUpError:
        before = None
    url = database or (before.database() if before and before.database_url else None)
    if url is None:
        raise NotSetUpError(
            "The address of the platform's database is missing.",
            "Run `backroom init --database postgresql://user:password@localhost:5432/name` "
            "(DATABASE_URL in the platform's .env).",
        )
    workspace = Workspace(home)
    looked = await look_at(url, workspace.catalogue() if before else None)

    wanted = name or (before.name if before else None) or default_name()
    changes: dict[str, object] = {"database_url": url, "name": wanted}
    if port is not None:
        changes["port"] = port
    await asyncio.to_thread(home.ensure)
    identity = await asyncio.to_thread(workspace.store.load_or_create_identity, wanted)
    await asyncio.to_thread(lambda: change(home, **changes))
    return SetUp(
        home=str(home.path),
        node_id=identity.node_id,
        short_id=identity.short_id,
        name=wanted,
        server=looked.server,
        tables=looked.tables,
        unclassified=looked.unclassified,
        businesses=len(looked.businesses),
        new=before is None,
    )
