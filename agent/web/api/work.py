"""The operations behind the endpoints: each takes what was asked and gives what the command's ``--json`` gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agent.archive.records import BackupRecord
from agent.database.merge import Conflicts
from agent.engine.backup import BackupRequest
from agent.engine.bundle_file import VerifiedBundle
from agent.engine.plan import RestorePlan
from agent.engine.progress import Progress, silent
from agent.operations import bringing, deliveries, devices, look, posting, pulling, restores, status, transfers
from agent.operations.applying import totals
from agent.operations.backups import BackupMade, make_backup
from agent.operations.keys import Ask
from agent.operations.workspace import Workspace, utc_now
from agent.web.api import models
from agent.web.api.errors import BadRequest, PlanChanged
from protocol.manifest import Kind

_PRIVATE = {"receipt", "owner"}


def public(record: Any) -> dict[str, object]:
    """A record of the history without what is for the agent alone."""
    return {name: value for name, value in asdict(record).items() if name not in _PRIVATE}


async def see_status(workspace: Workspace, asked: models.Nothing) -> Any:
    return (await status.status(workspace)).as_dict()


async def see_devices(workspace: Workspace, asked: models.Nothing) -> Any:
    return [each.as_dict() for each in await devices.devices(workspace)]


async def see_businesses(workspace: Workspace, asked: models.Nothing) -> Any:
    found = await look.businesses(workspace)
    return [{"id": each.id, "name": each.name, "slug": each.slug, "demo": each.is_demo} for each in found]


async def see_tables(workspace: Workspace, asked: models.Nothing) -> Any:
    return [each.as_dict() for each in await look.tables(workspace)]


async def see_history(workspace: Workspace, asked: models.HistoryAsked) -> Any:
    async with workspace.history() as history:
        return {
            "backups": [public(each) for each in await history.backups(limit=asked.limit)],
            "transfers": [public(each) for each in await history.transfers(limit=asked.limit)],
            "restores": [public(each) for each in await history.restores(limit=asked.limit)],
        }


async def see_places(workspace: Workspace, asked: models.Nothing) -> Any:
    return [each.public() for each in workspace.config.delivery]


async def see_queue(workspace: Workspace, asked: models.Nothing) -> Any:
    jobs = await asyncio.to_thread(posting.outbox(workspace).jobs)
    return [each.public() for each in jobs]


async def back_up(workspace: Workspace, asked: models.BackupAsked, progress: Progress) -> Any:
    kind = _kind(asked.kind, asked.business)
    request = BackupRequest(kind, asked.business, compress=asked.compress, include_demo=asked.include_demo)
    async with workspace.history() as history:
        return (await make_backup(workspace, history, request, progress=progress)).as_dict()


def kind_to_download(asked: models.Download) -> Kind:
    """Raises :class:`BadRequest` where the parameters contradict each other."""
    if asked.business_id is not None and asked.include_device_data:
        raise BadRequest("A backup of one business has no device data: leave businessId or includeDeviceData out.")
    return Kind.BUSINESS if asked.business_id else Kind.FULL_DEVICE if asked.include_device_data else Kind.FULL


async def download(workspace: Workspace, asked: models.Download) -> BackupMade:
    """Make the backup that the download endpoint answers with; it stays in the archive and its history."""
    kind = kind_to_download(asked)
    request = BackupRequest(
        kind, asked.business_id or None, compress=asked.compress, include_demo=asked.include_demo_data
    )
    async with workspace.history() as history:
        return await make_backup(workspace, history, request, progress=silent)


async def stored(workspace: Workspace, bundle_id: str) -> tuple[Path, BackupRecord | None]:
    """The file of a bundle in the archive, and its record."""
    async with workspace.history() as history:
        record = await history.find_backup(bundle_id)
        return await workspace.archive.find(record.id if record else bundle_id, history), record


async def downloaded(workspace: Workspace, bundle_id: str) -> None:
    """Note that a bundle was downloaded to its end."""
    async with workspace.history() as history:
        await history.change_backup(bundle_id, downloaded_at=utc_now())


async def plan(workspace: Workspace, asked: models.PlanAsked, progress: Progress) -> Any:
    async with workspace.history() as history, _opened(workspace, asked, progress) as path:
        found = await restores.plan_file(
            workspace,
            history,
            path,
            conflicts=_conflicts(workspace, asked),
            trust_source=asked.trust_source,
            progress=progress,
        )
    return {**found.as_dict(), **totals(found), "plan_digest": found.digest, "applied": False}


async def apply(workspace: Workspace, asked: models.RestoreAsked, progress: Progress) -> Any:
    async def approve(bundle: VerifiedBundle, found: RestorePlan) -> bool:
        if found.digest != asked.plan_digest:
            raise PlanChanged("What would happen now is not what the plan said.")
        return True

    async with workspace.history() as history, _opened(workspace, asked, progress) as path:
        result = await restores.restore_file(
            workspace,
            history,
            path,
            conflicts=_conflicts(workspace, asked),
            trust_source=asked.trust_source,
            approve=approve,
            progress=progress,
        )
    return {**result.as_dict(), **totals(result.plan), "applied": True}


async def push(workspace: Workspace, asked: models.PushAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        done = await transfers.push(
            workspace, history, asked.business, asked.device, compress=asked.compress, progress=progress
        )
    return done.as_dict()


async def pull(workspace: Workspace, asked: models.PullAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        done = await pulling.pull(
            workspace,
            history,
            asked.device,
            _kind(asked.kind, asked.business),
            business=asked.business,
            include_demo=asked.include_demo,
            compress=asked.compress,
            progress=progress,
        )
    return done.as_dict()


async def deliver(workspace: Workspace, asked: models.DeliveryAsked, progress: Progress) -> Any:
    path = await look.find_bundle(workspace, asked.bundle)
    async with workspace.history() as history:
        done = await deliveries.deliver(
            workspace,
            history,
            path,
            asked.to,
            plain=asked.plain,
            passphrase=asked.passphrase.get_secret_value() if asked.passphrase else None,
            only_queue=asked.queue,
            progress=progress,
        )
    return done.as_dict()


def asking(passphrase: SecretStr | None) -> Ask:
    """Answers with the passphrase that was sent; raises :class:`BadRequest` where there is none."""

    async def ask(words: str) -> str:
        if passphrase is None:
            raise BadRequest(f"The file is sealed: {words[:1].lower()}{words[1:]} is needed.", "Send passphrase.")
        return passphrase.get_secret_value()

    return ask


def _kind(text: str, business: str | None) -> Kind:
    kind = Kind(text)
    if (kind is Kind.BUSINESS) != (business is not None):
        raise BadRequest("Give business for the kind business-specific, and for no other.")
    return kind


def _conflicts(workspace: Workspace, asked: models.PlanAsked) -> Conflicts:
    return Conflicts(asked.conflicts or workspace.config.conflicts)


@asynccontextmanager
async def _opened(workspace: Workspace, asked: models.PlanAsked, progress: Progress) -> AsyncIterator[Path]:
    """The bundle that was asked for, opened where it is sealed."""
    ask = asking(asked.passphrase)
    async with bringing.readable(workspace, asked.bundle, ask, progress=progress) as path:
        yield path
