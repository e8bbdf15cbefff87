"""Laptops of the demo shop: each has a folder, a PostgreSQL server of its own, and the platform's tables in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg

from agent.demo.data import DEFAULT_SCALE, fill, fill_device_state
from agent.demo.embedded import Cluster
from agent.demo.errors import DemoFolderInUse
from agent.demo.schema import schema_sql

Which = Literal["first", "second"]
DATABASE = "platform"
_NAMES: dict[Which, str] = {"first": "laptop-finance-001", "second": "laptop-kitchen-002"}
_MARK = "backroom-demo-laptop"


@dataclass(frozen=True, slots=True)
class DemoLaptop:
    """A laptop of the demo with its database running.

    ``dsn`` is the platform's database for its owner, an ordinary role; ``platform_node`` is the node ID in the
    platform's own sync tables (Backroom's node ID is another, made from the device's key); ``home`` is a folder for
    Backroom's data, not made yet.
    """

    which: Which
    name: str
    folder: Path
    dsn: str
    platform_node: str
    cluster: Cluster

    @property
    def home(self) -> Path:
        return self.folder / "backroom"

    async def stop(self) -> None:
        """Stop the laptop's database server; its data stays."""
        await self.cluster.stop()


async def create_demo_laptop(folder: Path, which: Which, *, seed: int = 1, scale: int = DEFAULT_SCALE) -> DemoLaptop:
    """Make, or start again, a laptop in ``folder`` with its database running.

    The ``first`` has the whole shop (``scale`` orders for each business); the ``second`` has the platform's tables
    empty but for its own device state, in which it has met the first. Raises ``DemoFolderInUse`` where the folder
    holds something else, and what ``Cluster.start`` raises. The caller stops the laptop.
    """
    await asyncio.to_thread(_claim, folder)
    cluster = Cluster(folder / "postgres")
    await cluster.start()
    dsn = cluster.dsn(DATABASE)
    try:
        # A database goes by another name until it is full, so that one left half filled is never taken for a laptop's.
        if DATABASE not in await cluster.database_names():
            filling = f"{DATABASE}_unfinished"
            await cluster.drop_database(filling)
            await _fill(await cluster.create_database(filling), which, seed, scale)
            await cluster.rename_database(filling, DATABASE)
    except BaseException:
        await cluster.stop()
        raise
    return DemoLaptop(which, _NAMES[which], folder, dsn, _node(which), cluster)


def _node(which: Which) -> str:
    return f"node-{_NAMES[which]}"


async def _fill(dsn: str, which: Which, seed: int, scale: int) -> None:
    connection: Any = await asyncpg.connect(dsn)
    try:
        for statement in schema_sql():
            await connection.execute(statement)
        name, node, peer = _NAMES[which], _node(which), _node("second" if which == "first" else "first")
        if which == "first":
            await fill(connection, seed=seed, scale=scale, device_name=name, node_id=node, peers=(peer,))
        else:
            await fill_device_state(connection, seed=seed, device_name=name, node_id=node, peers=(peer,))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _claim(folder: Path) -> None:
    """Mark the folder as a demo laptop's, or make sure that it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / _MARK).exists():
        raise DemoFolderInUse(f"The folder {folder} is not empty and holds no demo laptop.")
    (folder / _MARK).touch()
