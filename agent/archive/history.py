"""The history: every backup, transfer and restore of this laptop. Imports SQLAlchemy: import it where it is used."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime

from sqlalchemy import delete, insert, or_, select, update

from agent.archive import records
from agent.archive.errors import AmbiguousBundleError, HistoryError
from agent.archive.journal import Journal
from agent.archive.records import BackupRecord, RestoreRecord, TransferRecord
from agent.archive.schema import backups, drills, restores, runs, transfers
from agent.archive.storage import open_engine
from agent.archive.store import between, either, ended, equal, given, missing, values
from agent.home import Home
from protocol.manifest import Kind

# What is noted about a backup after it was recorded; everything else about it comes from the file.
_FIELDS = [field.name for field in fields(BackupRecord)]
NOTED = frozenset(_FIELDS[_FIELDS.index("notes") :])
_LEAST_PREFIX = 4
_SEARCHED = tuple(
    backups.c[name] for name in ("business_name", "source_device", "filename", "created_by", "notes", "id")
)
_DIED = {
    transfers: "The process ended before the transfer did.",
    restores: "The process ended before it could note a result: the database is as before or as after, never between.",
    drills: "The process ended before the drill did.",
    runs: "The process ended before the run did.",
}
_OPEN = ((transfers, records.STARTED), (restores, records.RUNNING), (drills, records.RUNNING), (runs, records.RUNNING))


class History(Journal):
    """The history database, made by :meth:`open`. Safe beside other processes and other instances of itself."""

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Home, url: str | None = None) -> AsyncIterator[History]:
        """Open (and make or upgrade) the history of ``home``: its SQLite file, or any SQLAlchemy URL.

        Work of processes that died is marked as interrupted, so that ``started`` and ``running`` are true.
        """
        history = cls(home, await open_engine(home, url))
        try:
            await history.mark_interrupted()
            yield history
        finally:
            await history._engine.dispose()

    # Backups.

    async def add_backup(self, record: BackupRecord) -> BackupRecord:
        """Record a bundle. One that is known already gets the new facts; notes, pin and deliveries stay."""
        record = replace(record, recorded_at=record.recorded_at or datetime.now(UTC))
        facts = values(record)
        async with self._writing() as connection:
            known = {name: value for name, value in facts.items() if name not in NOTED}
            changed = await connection.execute(update(backups).where(backups.c.id == record.id).values(known))
            if changed.rowcount == 0:
                await connection.execute(insert(backups).values(facts))
        return record

    async def backup(self, bundle_id: str) -> BackupRecord | None:
        """The backup with exactly this ID."""
        found = await self._select(BackupRecord, select(backups).where(backups.c.id == bundle_id))
        return found[0] if found else None

    async def find_backup(self, text: str) -> BackupRecord | None:
        """The backup by ID, by the first letters of one (at least four), or by file name."""
        kept = backups.c.removed_at.is_(None)
        exact = await self._select(
            BackupRecord, select(backups).where(or_(backups.c.id == text, (backups.c.filename == text) & kept)).limit(2)
        )
        if not exact and len(text) >= _LEAST_PREFIX:
            starts = backups.c.id.startswith(text, autoescape=True)
            exact = await self._select(BackupRecord, select(backups).where(starts).limit(2))
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
        query = select(backups).order_by(backups.c.created_at.desc(), backups.c.id)
        query = query.where(
            *equal(backups.c.kind, kind),
            *either(backups.c.business_id, backups.c.business_name, business),
            *either(backups.c.source_node, backups.c.source_device, device),
            *equal(backups.c.origin, origin),
            *equal(backups.c.pinned, pinned),
            *(or_(*(column.icontains(word, autoescape=True) for column in _SEARCHED)) for word in words),
            *([] if undos else [backups.c.kind != Kind.UNDO.value]),
            *([] if removed is None else [backups.c.removed_at.is_not(None) == removed]),
            *between(backups.c.created_at, since, until),
        )
        return await self._select(BackupRecord, query.limit(limit).offset(offset))

    async def trashed(self, prefix: str) -> tuple[BackupRecord, ...]:
        """The removed backups whose path starts with ``prefix``."""
        here = backups.c.path.startswith(prefix, autoescape=True)
        return await self._select(BackupRecord, select(backups).where(backups.c.removed_at.is_not(None), here))

    async def change_backup(self, bundle_id: str, **noted: object) -> BackupRecord:
        """Note something about a backup: any of :data:`NOTED` (``notes``, ``pinned``, ``verified_at``, deliveries)."""
        if unknown := noted.keys() - NOTED:
            raise HistoryError(f"{', '.join(sorted(unknown))} of a backup cannot be changed.")
        await self._change(backups, bundle_id, noted)
        changed = await self.backup(bundle_id)
        if changed is None:
            raise missing("backup", bundle_id)
        return changed

    async def remove_backup(self, bundle_id: str) -> None:
        """Forget a backup (its file is the archive's matter)."""
        async with self._writing() as connection:
            await connection.execute(delete(backups).where(backups.c.id == bundle_id))

    # Transfers.

    async def start_transfer(self, record: TransferRecord) -> TransferRecord:
        """Record a transfer that begins now, as this process's. ``state`` becomes ``started``."""
        record = replace(record, state=records.STARTED, owner=self._home.process)
        async with self._writing() as connection:
            await connection.execute(insert(transfers).values(values(record)))
        return record

    async def resume_transfer(self, transfer_id: str) -> TransferRecord:
        """Go on with a transfer that was interrupted, as this process's."""
        again = {"state": records.STARTED, "owner": self._home.process}
        cleared = {"ended_at": None, "error": None, "error_code": None}
        await self._change(transfers, transfer_id, {**again, **cleared})
        return await self._transfer(transfer_id)

    async def progress_transfer(self, transfer_id: str, bytes_done: int, bytes_total: int | None = None) -> None:
        """Note how far a transfer is (call it now and then, not for every chunk)."""
        await self._change(transfers, transfer_id, given({"bytes_done": bytes_done, "bytes_total": bytes_total}))

    async def end_transfer(
        self,
        transfer_id: str,
        state: str,
        *,
        bytes_done: int | None = None,
        bundle_id: str | None = None,
        error_code: str | None = None,
        error: str | None = None,
        receipt: bytes | None = None,
        totals: Mapping[str, int] | None = None,
    ) -> TransferRecord:
        """Record how a transfer ended: ``done``, ``failed``, ``refused`` or ``interrupted``."""
        known = {
            "bytes_done": bytes_done,
            "bundle_id": bundle_id,
            "receipt": receipt,
            "totals": totals and dict(totals),
        }
        await self._change(transfers, transfer_id, {**given(known), **ended(state, error_code, error)})
        return await self._transfer(transfer_id)

    async def transfers(
        self,
        *,
        direction: str | None = None,
        mode: str | None = None,
        peer: str | None = None,
        business: str | None = None,
        bundle_id: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[TransferRecord, ...]:
        """Transfers, newest first. ``peer`` and ``business`` are an ID or a name; ``since`` <= started < ``until``."""
        query = select(transfers).order_by(transfers.c.started_at.desc(), transfers.c.id)
        query = query.where(
            *equal(transfers.c.direction, direction),
            *equal(transfers.c.mode, mode),
            *either(transfers.c.peer_node, transfers.c.peer_name, peer),
            *either(transfers.c.business_id, transfers.c.business_name, business),
            *equal(transfers.c.bundle_id, bundle_id),
            *equal(transfers.c.state, state),
            *between(transfers.c.started_at, since, until),
        )
        return await self._select(TransferRecord, query.limit(limit).offset(offset))

    # Restores.

    async def start_restore(self, record: RestoreRecord) -> RestoreRecord:
        """Record a restore that begins now, as this process's. ``state`` becomes ``running``."""
        record = replace(record, state=records.RUNNING, owner=self._home.process)
        async with self._writing() as connection:
            await connection.execute(insert(restores).values(values(record)))
        return record

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
        await self._change(restores, restore_id, changes)
        return (await self._select(RestoreRecord, select(restores).where(restores.c.id == restore_id)))[0]

    async def restores(
        self,
        *,
        kind: str | None = None,
        business: str | None = None,
        bundle_id: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> tuple[RestoreRecord, ...]:
        """Restores and plans, newest first. ``business`` is an ID or a name; ``since`` <= started < ``until``."""
        query = select(restores).order_by(restores.c.started_at.desc(), restores.c.id)
        query = query.where(
            *equal(restores.c.kind, kind),
            *either(restores.c.business_id, restores.c.business_name, business),
            *equal(restores.c.bundle_id, bundle_id),
            *equal(restores.c.state, state),
            *between(restores.c.started_at, since, until),
        )
        return await self._select(RestoreRecord, query.limit(limit).offset(offset))

    async def mark_interrupted(self) -> int:
        """Mark unfinished work of processes that died as ``interrupted``. Returns how many records that were."""
        marked = 0
        for table, state in _OPEN:
            query = select(table.c.id, table.c.owner).where(table.c.state == state, table.c.owner.is_not(None))
            async with self._reading() as connection:
                open_rows = (await connection.execute(query)).all()
            dead = [(row_id, owner) for row_id, owner in open_rows if not self._home.alive(owner)]
            if not dead:
                continue
            async with self._writing() as connection:
                for row_id, owner in dead:
                    died = ended(records.INTERRUPTED, None, _DIED[table])
                    still = (table.c.id == row_id) & (table.c.owner == owner) & (table.c.state == state)
                    marked += (await connection.execute(update(table).where(still).values(died))).rowcount
        return marked

    async def _transfer(self, transfer_id: str) -> TransferRecord:
        return (await self._select(TransferRecord, select(transfers).where(transfers.c.id == transfer_id)))[0]


def new_id() -> str:
    """A fresh ID for a transfer or restore."""
    return secrets.token_hex(8)
