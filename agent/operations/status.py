"""How this laptop stands, for people and for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from agent.config import ConfigError
from agent.database.errors import DatabaseError
from agent.operations.alerts import Alerts
from agent.operations.look import businesses
from agent.operations.workspace import Workspace
from agent.tables.errors import TablesError


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """``database`` says in a few words how the database is; ``last`` maps backup, push... to when, if ever;
    ``last_drill`` how the last drill ended; ``alerts`` are the keys of the alerts that are open."""

    home: str
    name: str
    node_id: str
    short_id: str
    shop: str | None
    role: str | None
    devices: int
    agent_running: bool
    database: str
    database_ok: bool
    database_hint: str
    businesses: int | None
    bundles: int
    last: Mapping[str, datetime | None]
    last_drill: str | None
    alerts: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


async def status(workspace: Workspace) -> StatusSeen:
    """Raises ``NotSetUpError`` before ``backroom init``; a database that does not answer is part of the status."""
    config = workspace.config
    identity = await asyncio.to_thread(workspace.store.identity)
    shop = await asyncio.to_thread(workspace.store.shop)
    member = shop.roster.member(identity.node_id) if shop else None
    words, hint, found = "reachable", "", None
    try:
        found = len(await businesses(workspace))
    except (DatabaseError, TablesError, ConfigError) as error:
        words, hint = str(error), error.hint
    async with workspace.history() as history:
        backups = await history.backups(limit=1)
        pushes = await history.transfers(direction="sent", mode="push", state="done", limit=1)
        received = await history.transfers(direction="received", mode="push", state="done", limit=1)
        drills = await history.drills(limit=1)
    return StatusSeen(
        home=str(workspace.home.path),
        name=config.device_name(),
        node_id=identity.node_id,
        short_id=identity.short_id,
        shop=shop.shop_name if shop else None,
        role=member.role.value if member else None,
        devices=sum(each.active for each in shop.roster.members) if shop else 0,
        agent_running=await asyncio.to_thread(workspace.home.locked, "agent"),
        database=words,
        database_ok=found is not None,
        database_hint=hint,
        businesses=found,
        bundles=len(await workspace.archive.bundles()),
        last={
            "backup": backups[0].created_at if backups else None,
            "push": pushes[0].ended_at if pushes else None,
            "received": received[0].ended_at if received else None,
            "drill": drills[0].started_at if drills else None,
        },
        last_drill=drills[0].state if drills else None,
        alerts=tuple(sorted(await asyncio.to_thread(lambda: Alerts(workspace).open))),
    )
