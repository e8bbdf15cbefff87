"""What scripts/bench.py measures on: the laptops' databases, and a business's rows as one would copy them by hand."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import zstandard
from memory import laptop, measured

from agent.config import change
from agent.database.names import column_list, qualified
from agent.database.ownership import NEVER, Ownership
from agent.database.reflect import reflect
from agent.demo import data, schema
from agent.demo.embedded import SUPERUSER, Cluster
from agent.home import Home
from agent.tables.catalogue import TableClass, load_catalogue
from agent.tables.infer import classify
from certs.roster import Role
from certs.store import Store

BUSINESS = "Restaurant ABC"
_SHARE_OF_ONE = 3.2  # what one business has to sell more to have as many rows as the whole shop


def prepare(folder: Path, cluster: Cluster, scale: int) -> tuple[Callable[[str], Path], str, str]:
    """The databases "office" (the whole shop), "empty", and "alone" (as many rows of one business), and two laptops of
    one shop; how to point the first at a database, and the DSNs of the first and the last."""
    office = asyncio.run(_fill(cluster, "office", scale))
    empty = asyncio.run(_fill(cluster, "empty", None))
    one = asyncio.run(_fill(cluster, "one", round(scale * _SHARE_OF_ONE), mostly=BUSINESS))
    home, sales = laptop(folder, "office", office), laptop(folder, "sales", empty)
    founder, member = Store(home), Store(sales)
    founder.create_shop("Bench")
    member.join_result(founder.issue("sales", member.identity().public_key, Role.MEMBER))
    alone = asyncio.run(cluster.create_database("alone", template="empty"))

    def at(dsn: str) -> Path:
        change(Home(home), database_url=dsn)
        return home

    made, _, _ = measured(at(one), "backup", "--business", BUSINESS)
    asyncio.run(cluster.drop_database("one"))
    measured(at(alone), "restore", str(made["file"]), "--yes", "--trust-source")
    asyncio.run(execute(alone, "VACUUM ANALYZE"))
    return at, office, alone


async def own_queries(dsn: str) -> list[str]:
    """The rows of the business as one would copy them by hand: its own and the reference tables."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await reflect(connection)
        classification = classify(found, load_catalogue())
        business = await connection.fetchval("SELECT id FROM businesses WHERE name = $1", BUSINESS)
    finally:
        await connection.close()
    ownership = Ownership(found, classification, (business,))
    queries = []
    for name in classification.of_class(TableClass.BUSINESS):
        condition = "true" if classification.rule(name).whole else ownership.ours(name, "t")
        if condition != NEVER:
            columns = column_list((column.name for column in found.tables[name].stored_columns), "t")
            queries.append(f"SELECT {columns} FROM {qualified(found.tables[name])} t WHERE {condition}")
    return queries


async def copy(dsn: str, queries: list[str], path: Path) -> None:
    """Copy the rows of these queries into a zstd file."""
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    try:
        with path.open("wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as writer:

            async def write(chunk: bytes) -> None:
                await asyncio.to_thread(writer.write, chunk)

            for query in queries:
                await connection.copy_from_query(query, output=write, format="text")
    finally:
        await connection.close()


async def execute(dsn: str, *statements: str) -> None:
    """Run statements, each by itself."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def about(cluster: Cluster, rows: int) -> dict[str, Any]:
    """Machine, versions and sizes."""
    connection = await asyncpg.connect(cluster.dsn("office", SUPERUSER))
    try:
        counted = await connection.fetchval("SELECT sum(n_live_tup)::bigint FROM pg_stat_user_tables")
        return {
            "asked for rows": rows,
            "rows": counted,
            "database bytes": await connection.fetchval("SELECT pg_database_size(current_database())"),
            "server": await connection.fetchval("SHOW server_version"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GB",
            "load before": round(os.getloadavg()[0], 2),
        }
    finally:
        await connection.close()


async def _fill(cluster: Cluster, name: str, scale: int | None, mostly: str | None = None) -> str:
    dsn = await cluster.create_database(name)
    connection = await asyncpg.connect(dsn)
    try:
        for statement in schema.schema_sql():
            await connection.execute(statement)
        if scale is None:
            await data.fill_device_state(connection, seed=2, device_name=name, node_id=f"node-{name}")
        else:
            await data.fill(connection, scale=scale, mostly=mostly, device_name=name, node_id=f"node-{name}")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return dsn
