"""A look before a push, on the receiver's side: what the bundle would do here, while nothing is done."""

from __future__ import annotations

from dataclasses import dataclass

from agent.archive.history import History
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle
from agent.engine.plan import RestorePlan
from agent.operations.applying import in_words, totals
from agent.operations.restores import plan_bundle
from agent.operations.workspace import Workspace

LOOK = "look"
"""The mode of a transfer that only looks, in the history."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A plan as a receipt tells it: rows by table and in all, and what should be known. ``refused``: a push of this
    bundle would be refused, and the words say why."""

    tables: dict[str, dict[str, int]]
    totals: dict[str, int]
    words: str
    refused: bool


async def look_at(
    workspace: Workspace, history: History, bundle: VerifiedBundle, peer_name: str, transfer_id: str
) -> Seen:
    """Plan a pushed bundle, the newer row winning; the history notes the plan. Raises what planning raises."""
    plan = await plan_bundle(
        workspace,
        history,
        bundle,
        Conflicts.NEWER,
        approver=f"look from {peer_name}",
        transfer_id=transfer_id,
    )
    why = _refusal(plan)
    tables = {name: in_words(each) for name, each in plan.tables.items() if each.changes or each.kept}
    return Seen(tables, totals(plan), "; ".join(why or plan.warnings)[:1000], bool(why))


def _refusal(plan: RestorePlan) -> list[str]:
    return [str(each) for each in (*plan.unclear, *plan.duplicates)]
