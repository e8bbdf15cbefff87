"""Backups and restores between databases, for tests of the engine."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.database.merge import Conflicts
from agent.engine.backup import BackupRequest, backup
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.known import Earlier, Known
from agent.engine.plan import RestorePlan, RestoreResult
from agent.engine.restore import plan_restore, restore
from agent.peers.delta import BaseFile
from agent.tables.catalogue import Catalogue, load_catalogue
from protocol.manifest import Kind
from tests.support.backups import KEY, NOW, MemorySink, origin
from tests.support.databases import Database

OFFICE = "node-office"
KITCHEN = "node-kitchen"


def verify_as(node: str) -> Any:
    """A verifier for bundles of ``tests.support.backups.origin``: the signature is real, the node is ``node``."""

    def verify(certificate: bytes, signature: bytes, message: bytes) -> str:
        KEY.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
        return node

    return verify


@dataclass
class Laptop:
    """A database, its node and where its bundles go."""

    database: Database
    folder: Path
    node: str = OFFICE
    catalogue: Catalogue = field(default_factory=load_catalogue)
    made: int = 0
    known: Known | None = None

    async def bundle(
        self,
        kind: Kind = Kind.FULL,
        business: str | None = None,
        *,
        after: VerifiedBundle | None = None,
        **options: Any,
    ) -> VerifiedBundle:
        """A backup of this laptop as a verified file; of ``after``, the last one, where nobody has touched its rows."""
        sink, earlier = MemorySink(), None
        request = BackupRequest(kind, business, **options)
        with ExitStack() as stack:
            if after is not None and self.known is not None:
                file, base = BaseFile(after.manifest.bundle_id, after.path).open()
                stack.enter_context(file)
                earlier = Earlier(self.known, base)
            result = await backup(
                self.database.dsn,
                self.catalogue,
                request,
                origin(self.node, f"laptop-{self.node}"),
                sink,
                now=lambda: NOW,
                earlier=earlier,
            )
        self.known = result.known
        self.made += 1
        path = self.folder / f"{self.node}-{self.made}.bundle"
        path.write_bytes(bytes(sink.data))
        return await verify_bundle(path, verify_as(self.node))

    async def restore(self, bundle: VerifiedBundle, **options: Any) -> RestoreResult:
        return await restore(self.database.dsn, bundle, self.catalogue, own_node=self.node, **options)

    async def plan(self, bundle: VerifiedBundle, **options: Any) -> RestorePlan:
        return await plan_restore(self.database.dsn, bundle, self.catalogue, own_node=self.node, **options)

    async def execute(self, sql: str, *arguments: object) -> str:
        async with self.database.connect() as connection:
            return str(await connection.execute(sql, *arguments))

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        async with self.database.connect() as connection:
            return list(await connection.fetch(sql, *arguments))

    async def value(self, sql: str, *arguments: object) -> Any:
        async with self.database.connect() as connection:
            return await connection.fetchval(sql, *arguments)

    async def contents(self) -> dict[str, tuple[int, str]]:
        """Row count and digest of the text of all rows of every table."""
        async with self.database.connect() as connection:
            await connection.execute("SET extra_float_digits = 1; SET timezone = 'UTC'")
            names = await connection.fetch(
                "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY 1"
            )
            found = {}
            for row in names:
                rows = await connection.fetch(
                    f'SELECT t::text AS row FROM {row["name"]} t ORDER BY t::text COLLATE "C"'
                )
                text = "\n".join(each["row"] for each in rows)
                found[row["name"].strip('"')] = (len(rows), hashlib.sha256(text.encode()).hexdigest())
            return found


__all__ = ["KITCHEN", "OFFICE", "Conflicts", "Laptop", "verify_as"]
