"""Applying a bundle that is verified and trusted, with the truth about it in the history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.archive.history import History, new_id
from agent.archive.records import RUNNING, RestoreRecord
from agent.database.exclusive import RestoreRunning
from agent.database.merge import Conflicts
from agent.engine.bundle_file import BundleSource, VerifiedBundle
from agent.engine.choices import NO_CHOICES, Choices
from agent.engine.plan import RestorePlan, RestoreResult, TableCounts
from agent.engine.progress import Progress, silent
from agent.engine.restore import restore
from agent.operations.bringing import is_copy
from agent.operations.outcomes import RunningRestore
from agent.operations.remembering import Of, remember, remembered
from agent.operations.workspace import Workspace, person, utc_now
from agent.peers.handler import Report
from protocol.delta import News
from protocol.manifest import Kind, Manifest


async def apply_bundle(
    workspace: Workspace,
    history: History,
    bundle: VerifiedBundle,
    *,
    conflicts: Conflicts,
    choices: Choices = NO_CHOICES,
    news: News | None = None,
    expected: str | None = None,
    approver: str | None = None,
    transfer_id: str | None = None,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
) -> RestoreResult:
    """Restore a verified, trusted bundle and keep the truth about it in the history, whatever happens.

    ``news`` is what was learned of the bundle while it came as a delta. Another restore into the database is waited
    for, up to ``wait_seconds``.
    """
    record = restore_record(
        workspace,
        bundle.manifest,
        bundle.path,
        conflicts,
        choices,
        approver=approver,
        transfer_id=transfer_id,
    )
    running = RunningRestore(workspace, history, record)
    await running.enter()
    return await carry_out(
        running,
        history,
        bundle,
        conflicts=conflicts,
        choices=choices,
        news=news,
        expected=expected,
        wait_seconds=wait_seconds,
        progress=progress,
    )


async def carry_out(
    running: RunningRestore,
    history: History,
    bundle: BundleSource,
    *,
    conflicts: Conflicts,
    choices: Choices = NO_CHOICES,
    news: News | None = None,
    expected: str | None = None,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
) -> RestoreResult:
    """The restore itself, recorded by ``running``; the rest is as for :func:`apply_bundle`."""
    workspace, business = running.workspace, business_id(bundle.manifest)
    async with remembered(workspace, history, Of.RESTORED, business) as earlier:
        result = await running.run(
            lambda: _after_others(
                lambda: restore(
                    workspace.database_url,
                    bundle,
                    workspace.catalogue(),
                    own_node=workspace.store.identity().node_id,
                    conflicts=conflicts,
                    choices=choices,
                    expected=expected,
                    keeper=running.keeper,
                    started=running.started,
                    earlier=earlier.told(news) if earlier is not None else None,
                    progress=progress,
                ),
                wait_seconds,
            ),
            lambda result: (totals(result.plan), result.plan.digest),
        )
    if result.known is not None and business is not None:
        await remember(workspace, Of.RESTORED, business, result.known)
    return result


def business_id(manifest: Manifest) -> str | None:
    """The ID of the business that is the bundle's; None where it is of another kind."""
    return manifest.business.id if manifest.business is not None and manifest.kind is Kind.BUSINESS else None


async def _after_others(work: Callable[[], Awaitable[RestoreResult]], wait_seconds: float) -> RestoreResult:
    """Also the restore of an agent that was killed counts as running, until the database server has noticed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + wait_seconds
    while True:
        try:
            return await work()
        except RestoreRunning:
            if loop.time() > end:
                raise
        await asyncio.sleep(1)


def telling(report: Report, rows: int) -> Progress:
    """What tells whoever pushed the bundle, of so many rows, how far applying it is; that it begins is told at once."""
    report("applying", 0, rows, "")
    return lambda step: report("applying", step.done, step.total or rows, step.stage)


def totals(plan: RestorePlan) -> dict[str, int]:
    """Rows in all by what becomes of them, in the words of the results; they add up to the bundle's rows."""
    return in_words(plan.totals)


def in_words(counts: TableCounts) -> dict[str, int]:
    """The counts of one table. A stub that is here already stays as it is, so it is unchanged."""
    left_out = {"left_out": counts.left_out} if counts.left_out else {}
    return {
        "inserted": counts.insert,
        "updated": counts.update,
        "unchanged": counts.unchanged + counts.stub,
        "kept": counts.kept,
        "deleted": counts.delete,
        **left_out,
    }


def _mode(conflicts: Conflicts, choices: Choices) -> str:
    """How the history names what was done."""
    if choices.mirror:
        return "mirror"
    return "as-new" if choices.as_new is not None else conflicts.value


def restore_record(
    workspace: Workspace,
    manifest: Manifest,
    path: Path,
    conflicts: Conflicts,
    choices: Choices,
    *,
    approver: str | None,
    transfer_id: str | None = None,
) -> RestoreRecord:
    """What the history says of a restore, of the file ``path``, that begins now. Unless it is said who approved it, it
    was whoever runs this."""
    return RestoreRecord(
        id=new_id(),
        bundle_id=manifest.bundle_id,
        file=path.name if is_copy(path) else workspace.archive.stored_path(path),
        kind=manifest.kind.value,
        mode=_mode(conflicts, choices),
        state=RUNNING,
        started_at=utc_now(),
        source_node=manifest.source_node,
        source_device=manifest.source_device,
        business_id=manifest.business.id if manifest.business else None,
        business_name=manifest.business.name if manifest.business else None,
        transfer_id=transfer_id,
        approver=approver or person(),
    )
