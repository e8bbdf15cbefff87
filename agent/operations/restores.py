"""Restoring a bundle file: verify, trust, plan, ask, apply, remember."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent.archive.history import History, new_id
from agent.archive.records import APPLIED, PLANNED, RUNNING, RestoreRecord
from agent.database.exclusive import RestoreRunning
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choices import NO_CHOICES, Choices
from agent.engine.compare import Comparison, compare
from agent.engine.compare_sides import bundle_side, live_side
from agent.engine.plan import RestorePlan, RestoreResult, TableCounts
from agent.engine.progress import Progress, silent
from agent.engine.restore import plan_restore, restore
from agent.engine.restore_errors import PlanChanged
from agent.operations.bringing import is_copy
from agent.operations.errors import Declined, OperationError
from agent.operations.inspect import verified
from agent.operations.outcomes import RunningRestore
from agent.operations.remembering import Of, remember, remembered
from agent.operations.workspace import Workspace, person, utc_now
from certs.identity import verify_signature
from protocol.delta import News
from protocol.manifest import Kind


class NoSuchPlan(OperationError):
    code = "no-such-plan"
    hint = "Make it with `restore FILE --plan` and give its digest, or the first letters of it."


Approve = Callable[[VerifiedBundle, RestorePlan], Awaitable[bool]]


async def plan_file(
    workspace: Workspace,
    history: History,
    path: Path,
    *,
    conflicts: Conflicts,
    choices: Choices = NO_CHOICES,
    trust_source: bool = False,
    show: Sequence[str] = (),
    progress: Progress = silent,
) -> RestorePlan:
    """What restoring the file would do now. Changes nothing but the history, which notes the plan.

    ``show`` names tables of which the plan brings examples.
    """
    bundle = await verified(workspace, path, trust_source=trust_source, progress=progress)
    return await _planned(workspace, history, bundle, conflicts, progress, choices=choices, show=show)


async def restore_file(
    workspace: Workspace,
    history: History,
    path: Path,
    *,
    conflicts: Conflicts,
    choices: Choices = NO_CHOICES,
    trust_source: bool = False,
    approve: Approve | None = None,
    expected: str | None = None,
    progress: Progress = silent,
) -> RestoreResult:
    """Restore the file. ``approve`` is shown the plan and decides; what is applied then is exactly that plan.

    ``expected`` is the digest of a plan that was looked at before, or its first letters: nothing else is applied.
    Raises :class:`NoSuchPlan` where the history knows no such plan of this bundle, :class:`Declined` where the answer
    is no, and errors of the protocol, the engine and the database; then nothing has changed.
    """
    bundle = await verified(workspace, path, trust_source=trust_source, progress=progress)
    planned = await _plan_record(history, bundle, expected) if expected is not None else None
    if planned is not None:
        expected = planned.plan_digest
    elif approve is not None:
        plan = await _planned(workspace, history, bundle, conflicts, progress, choices=choices)
        if not await approve(bundle, plan):
            raise Declined("The restore was not wanted.")
        expected = plan.digest
    try:
        return await apply_bundle(
            workspace, history, bundle, conflicts=conflicts, choices=choices, expected=expected, progress=progress
        )
    except PlanChanged as error:
        raise _with_what_moved(error, planned) from error


async def _plan_record(history: History, bundle: VerifiedBundle, digest: str) -> RestoreRecord:
    plans = await history.restores(bundle_id=bundle.manifest.bundle_id, state=PLANNED)
    found = {p.plan_digest: p for p in reversed(plans) if p.plan_digest and p.plan_digest.startswith(digest)}
    if len(found) != 1 or len(digest) < 6:
        raise NoSuchPlan(f"The history knows no plan {digest!r} of this bundle.")
    return next(iter(found.values()))


def _with_what_moved(error: PlanChanged, planned: RestoreRecord | None) -> PlanChanged:
    """The same error, saying how the numbers differ from those of the plan that was agreed to."""
    now = error.details[0] if error.details else None
    if planned is None or not isinstance(now, RestorePlan):
        return error
    moved = [
        f"{number:,} {what} instead of {planned.counts.get(what, 0):,}"
        for what, number in totals(now).items()
        if number != planned.counts.get(what, 0)
    ]
    how = "; ".join(moved) or "the same numbers, but other rows"
    return PlanChanged(f"The data here changed since the plan was made: now {how}. Nothing was changed.")


async def estimated_seconds(history: History, plan: RestorePlan) -> float | None:
    """How long applying the plan may take, by the median speed of this machine's last restores; None without any."""
    past = [
        (record.ended_at - record.started_at).total_seconds() / rows
        for record in await history.restores(state=APPLIED, limit=20)
        if record.ended_at is not None and (rows := sum(record.counts.values())) > 0
    ]
    return statistics.median(past) * plan.totals.rows if past else None


async def proved(workspace: Workspace, path: Path, result: RestoreResult, choices: Choices) -> Comparison | None:
    """After a restore in which the bundle's rows won: the business here, compared with the bundle by digests.

    None where they are not meant to be the same: a part of it, a second business, or more than one business.
    """
    business = result.plan.business
    if business is None or choices.only or choices.as_new or result.plan.kind is not Kind.BUSINESS:
        return None
    bundle = await verify_bundle(path, verify_signature, opener=workspace.bundle_files.open)
    url = workspace.database_url
    async with live_side(url, workspace.catalogue(), business.id) as here, bundle_side(url, bundle) as there:
        return await compare(here, there)


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
    record = await history.start_restore(
        _record(workspace, bundle, _mode(conflicts, choices), approver=approver or person(), transfer_id=transfer_id)
    )
    running = RunningRestore(workspace, history, record)
    async with remembered(workspace, history, Of.RESTORED, _business_id(bundle)) as earlier:
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
    if result.known is not None and (business := _business_id(bundle)) is not None:
        await remember(workspace, Of.RESTORED, business, result.known)
    return result


def _business_id(bundle: VerifiedBundle) -> str | None:
    business = bundle.manifest.business
    return business.id if business is not None and bundle.manifest.kind is Kind.BUSINESS else None


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


async def plan_bundle(
    workspace: Workspace,
    history: History,
    bundle: VerifiedBundle,
    conflicts: Conflicts,
    *,
    approver: str,
    transfer_id: str,
) -> RestorePlan:
    """What a pushed bundle would do now; the history notes the plan with its transfer."""
    return await _planned(workspace, history, bundle, conflicts, silent, approver=approver, transfer_id=transfer_id)


async def _planned(
    workspace: Workspace,
    history: History,
    bundle: VerifiedBundle,
    conflicts: Conflicts,
    progress: Progress,
    *,
    choices: Choices = NO_CHOICES,
    approver: str | None = None,
    transfer_id: str | None = None,
    show: Sequence[str] = (),
) -> RestorePlan:
    async with remembered(workspace, history, Of.RESTORED, _business_id(bundle)) as earlier:
        plan = await plan_restore(
            workspace.database_url,
            bundle,
            workspace.catalogue(),
            own_node=workspace.store.identity().node_id,
            conflicts=conflicts,
            choices=choices,
            show=show,
            earlier=earlier,
            progress=progress,
        )
    record = await history.start_restore(
        _record(workspace, bundle, _mode(conflicts, choices), approver=approver or person(), transfer_id=transfer_id)
    )
    await history.end_restore(record.id, PLANNED, counts=totals(plan), plan_digest=plan.digest)
    return plan


def _mode(conflicts: Conflicts, choices: Choices) -> str:
    """How the history names what was done."""
    if choices.mirror:
        return "mirror"
    return "as-new" if choices.as_new is not None else conflicts.value


def _record(
    workspace: Workspace,
    bundle: VerifiedBundle,
    mode: str,
    *,
    approver: str,
    transfer_id: str | None = None,
) -> RestoreRecord:
    manifest = bundle.manifest
    return RestoreRecord(
        id=new_id(),
        bundle_id=manifest.bundle_id,
        file=bundle.path.name if is_copy(bundle.path) else workspace.archive.stored_path(bundle.path),
        kind=manifest.kind.value,
        mode=mode,
        state=RUNNING,
        started_at=utc_now(),
        source_node=manifest.source_node,
        source_device=manifest.source_device,
        business_id=manifest.business.id if manifest.business else None,
        business_name=manifest.business.name if manifest.business else None,
        transfer_id=transfer_id,
        approver=approver,
    )
