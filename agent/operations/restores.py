"""Restoring a bundle file: verify, trust, plan, ask, apply, remember."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import APPLIED, PLANNED, RestoreRecord
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.choices import NO_CHOICES, Choices
from agent.engine.compare import Comparison, compare
from agent.engine.compare_sides import bundle_side, live_side
from agent.engine.plan import RestorePlan, RestoreResult
from agent.engine.progress import Progress, silent
from agent.engine.restore import plan_restore
from agent.engine.restore_errors import PlanChanged
from agent.operations.applying import apply_bundle, business_id, restore_record, totals
from agent.operations.errors import Declined, OperationError
from agent.operations.inspect import verified
from agent.operations.remembering import Of, remembered
from agent.operations.workspace import Workspace
from certs.identity import verify_signature
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
    async with remembered(workspace, history, Of.RESTORED, business_id(bundle.manifest)) as earlier:
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
        restore_record(
            workspace,
            bundle.manifest,
            bundle.path,
            conflicts,
            choices,
            approver=approver,
            transfer_id=transfer_id,
        )
    )
    await history.end_restore(record.id, PLANNED, counts=totals(plan), plan_digest=plan.digest)
    return plan
