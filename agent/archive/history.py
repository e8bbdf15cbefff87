"""The history: every backup, transfer and restore of this laptop."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime

from agent.archive import records
from agent.archive.errors import AmbiguousBundleError, HistoryError
from agent.archive.journal import Journal
from agent.archive.records import BackupRecord, RestoreRecord, TransferRecord
from agent.archive.sql import (
    Sql,
    backups,
    between,
    contains,
    drills,
    either,
    equal,
    is_,
    is_not,
    restores,
    runs,
    starts,
    transfers,
)
from agent.archive.storage import Connection, open_database
from agent.archive.store import ended, given
from agent.home import Home
from protocol.manifest import Kind

# What is noted about a backup after it was recorded; everything else about it comes from the file.
_FIELDS = [field.name for field in fields(BackupRecord)]
NOTED = frozenset(_FIELDS[_FIELDS.index("notes") :])
_LEAST_PREFIX = 4
_SEARCHED = ("business_name", "source_device", "filename", "created_by", "notes", "id")
_SEARCHED_OF_TRANSFERS = ("business_name", "peer_name", "error", "id")
_SEARCHED_OF_RESTORES = ("business_name", "source_device", "file", "approver", "error", "id")
_OPEN = (
    (transfers, records.STARTED, "The process ended before the transfer did."),
    (
        restores,
        records.RUNNING,
        "The process ended before it could note a result: the database is as before or as after, never between.",
    ),
    (drills, records.RUNNING, "The process ended before the drill did."),
    (runs, records.RUNNING, "The process ended before the run did."),
)
"""What belongs to a living process while it is in that state, and what is said of it when the process died."""


class History(Journal):
    """The history database, made by :meth:`open`. Safe beside other processes and other instances of itself."""

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Home, url: str | None = None) -> AsyncIterator[History]:
        """Open (and make or upgrade) the history of ``home``: its SQLite file, or another database's URL.

        Work of processes that died is marked as interrupted, so that ``started`` and ``running`` are true.
        """
        history = cls(home, await open_database(home, url))
        try:
            await history.mark_interrupted()
            yield history
        finally:
            await history._database.close()

    # Backups.

    async def add_backup(self, record: BackupRecord) -> BackupRecord:
        """Record a bundle. One that is known already gets the new facts; notes, pin and deliveries stay."""
        record = replace(record, recorded_at=record.recorded_at or datetime.now(UTC))
        facts = {name: getattr(record, name) for name in _FIELDS if name not in NOTED}

        def add(connection: Connection) -> None:
            if connection.execute(backups.update(facts, is_("id", record.id))).changed == 0:
                connection.execute(backups.insert(record))

        await self._database.run(add, write=True)
        return record

    async def backup(self, bundle_id: str) -> BackupRecord | None:
        """The backup with exactly this ID."""
        return await self._one(backups, bundle_id)

    async def find_backup(self, text: str, *, removed: bool = False) -> BackupRecord | None:
        """The backup by ID, by the first letters of one (at least four), or by file name.

        A file name means one in the archive, or with ``removed`` one that was taken out of it.
        """
        named = Sql(f'("id" = ? OR ("filename" = ? AND "removed_at" IS {"NOT " * removed}NULL))', (text, text))
        exact = await self._select(backups, backups.select(named, newest="created_at", limit=2))
        if not exact and len(text) >= _LEAST_PREFIX:
            exact = await self._select(backups, backups.select(starts("id", text), newest="created_at", limit=2))
        if len(exact) > 1:
            raise AmbiguousBundleError(f"{text!r} fits several backups.", "Give the whole bundle ID.")
        return exact[0] if exact else None

    async def backups(
        self,
        *,
        kind: str | None = None,
        business: str | None = None,
        device: str | None = None,
        origin: str | None = None,
        pinned: bool | None = None,
        removed: bool | None = False,
        words: Sequence[str] = (),
        undos: bool = True,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[BackupRecord, ...]:
        """Backups, newest first. ``business`` and ``device`` are an ID or a name; ``since`` <= created < ``until``.

        ``removed`` are those in the trash or gone; None means both. Each of ``words`` is somewhere in the names, the
        notes or the ID; capitals count only where they are not ASCII. Without ``undos``, backups alone.
        """
        query = backups.select(
            *equal("kind", kind),
            *either("business_id", "business_name", business),
            *either("source_node", "source_device", device),
            *equal("origin", origin),
            *equal("pinned", pinned),
            *(contains(_SEARCHED, word) for word in words),
            *([] if undos else [is_not("kind", Kind.UNDO.value)]),
            *([] if removed is None else [is_not("removed_at", None) if removed else is_("removed_at", None)]),
            *between("created_at", since, until),
            newest="created_at",
            limit=limit,
            offset=offset,
        )
        return await self._select(backups, query)

    async def trashed(self, prefix: str) -> tuple[BackupRecord, ...]:
        """The removed backups whose path starts with ``prefix``."""
        query = backups.select(is_not("removed_at", None), starts("path", prefix), newest="created_at")
        return await self._select(backups, query)

    async def change_backup(self, bundle_id: str, **noted: object) -> BackupRecord:
        """Note something about a backup: any of :data:`NOTED` (``notes``, ``pinned``, ``verified_at``, deliveries)."""
        if unknown := noted.keys() - NOTED:
            raise HistoryError(f"{', '.join(sorted(unknown))} of a backup cannot be changed.")
        return await self._changed(backups, bundle_id, noted)

    async def remove_backup(self, bundle_id: str) -> None:
        """Forget a backup (its file is the archive's matter)."""
        statement = backups.delete(is_("id", bundle_id))
        await self._database.run(lambda connection: connection.execute(statement), write=True)

    # Transfers.

    async def start_transfer(self, record: TransferRecord) -> TransferRecord:
        """Record a transfer that begins now, as this process's. ``state`` becomes ``started``."""
        return await self._insert(transfers, replace(record, state=records.STARTED, owner=self._home.process))

    async def resume_transfer(self, transfer_id: str) -> TransferRecord:
        """Go on with a transfer that was interrupted, as this process's."""
        again = {"state": records.STARTED, "owner": self._home.process}
        cleared = {"ended_at": None, "error": None, "error_code": None}
        return await self._changed(transfers, transfer_id, {**again, **cleared})

    async def progress_transfer(self, transfer_id: str, bytes_done: int | None, bytes_total: int | None = None) -> None:
        """Note how far a transfer is (call it now and then, not for every chunk)."""
        await self._change(transfers, transfer_id, given({"bytes_done": bytes_done, "bytes_total": bytes_total}))

    async def end_transfer(
        self,
        transfer_id: str,
        state: str,
        *,
        bytes_done: int | None = None,
        bundle_id: str | None = None,
        business_id: str | None = None,
        business_name: str | None = None,
        error_code: str | None = None,
        error: str | None = None,
        receipt: bytes | None = None,
        totals: Mapping[str, int] | None = None,
    ) -> TransferRecord:
        """Record how a transfer ended: ``done``, ``failed``, ``refused`` or ``interrupted``."""
        known = {
            "bytes_done": bytes_done,
            "bundle_id": bundle_id,
            "business_id": business_id,
            "business_name": business_name,
            "receipt": receipt,
            "totals": totals and dict(totals),
        }
        return await self._changed(transfers, transfer_id, {**given(known), **ended(state, error_code, error)})

    async def transfers(
        self,
        *,
        direction: str | None = None,
        mode: str | None = None,
        peer: str | None = None,
        business: str | None = None,
        bundle_id: str | None = None,
        state: str | tuple[str, ...] | None = None,
        words: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[TransferRecord, ...]:
        """Transfers, newest first. ``peer`` and ``business`` are an ID or a name; ``since`` <= started < ``until``.

        ``state``: one, or one of several. ``words`` as in :meth:`backups`, in names, ID and error.
        """
        query = transfers.select(
            *equal("direction", direction),
            *equal("mode", mode),
            *either("peer_node", "peer_name", peer),
            *either("business_id", "business_name", business),
            *equal("bundle_id", bundle_id),
            *equal("state", state),
            *(contains(_SEARCHED_OF_TRANSFERS, word) for word in words),
            *between("started_at", since, until),
            newest="started_at",
            limit=limit,
            offset=offset,
        )
        return await self._select(transfers, query)

    # Restores.

    async def start_restore(self, record: RestoreRecord) -> RestoreRecord:
        """Record a restore that begins now, as this process's. ``state`` becomes ``running``."""
        return await self._insert(restores, replace(record, state=records.RUNNING, owner=self._home.process))

    async def note_restore(
        self, restore_id: str, *, transaction: str | None = None, undo_path: str | None = None
    ) -> None:
        """Note of a running restore what must be known if this process dies now."""
        await self._change(restores, restore_id, given({"transaction": transaction, "undo_path": undo_path}))

    async def end_restore(
        self,
        restore_id: str,
        state: str,
        *,
        counts: Mapping[str, int] | None = None,
        approver: str | None = None,
        error_code: str | None = None,
        error: str | None = None,
        plan_digest: str | None = None,
        undo_path: str | None = None,
    ) -> RestoreRecord:
        """Record how a restore ended: ``planned``, ``applied``, ``failed`` or ``refused``."""
        known = {"approver": approver, "plan_digest": plan_digest, "undo_path": undo_path}
        changes = {**given({**known, "counts": counts and dict(counts)}), **ended(state, error_code, error)}
        return await self._changed(restores, restore_id, changes)

    async def restores(
        self,
        *,
        kind: str | None = None,
        business: str | None = None,
        bundle_id: str | None = None,
        state: str | tuple[str, ...] | None = None,
        words: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[RestoreRecord, ...]:
        """Restores and plans, newest first. ``business`` is an ID or a name; ``since`` <= started < ``until``.

        ``state`` and ``words`` as in :meth:`transfers`.
        """
        query = restores.select(
            *equal("kind", kind),
            *either("business_id", "business_name", business),
            *equal("bundle_id", bundle_id),
            *equal("state", state),
            *(contains(_SEARCHED_OF_RESTORES, word) for word in words),
            *between("started_at", since, until),
            newest="started_at",
            limit=limit,
            offset=offset,
        )
        return await self._select(restores, query)

    async def mark_interrupted(self) -> int:
        """Mark unfinished work of processes that died as ``interrupted``. Returns how many records that were."""

        def unfinished(connection: Connection) -> list[tuple[int, str, str]]:
            owned = (
                Sql(f'SELECT "id", "owner" FROM "{table.name}" WHERE "state" = ? AND "owner" IS NOT NULL', (state,))
                for table, state, _ in _OPEN
            )
            return [(place, *row) for place, query in enumerate(owned) for row in connection.execute(query).rows]

        owners = await self._database.run(unfinished)
        dead = [each for each in owners if not self._home.alive(each[2])]
        if not dead:
            return 0

        def mark(connection: Connection) -> int:
            marked = 0
            for place, row_id, owner in dead:
                table, state, died = _OPEN[place]
                still = is_("id", row_id), is_("owner", owner), is_("state", state)
                marked += connection.execute(table.update(ended(records.INTERRUPTED, None, died), *still)).changed
            return marked

        return await self._database.run(mark, write=True)


def new_id() -> str:
    """A fresh ID for a transfer or restore."""
    return secrets.token_hex(8)
