"""``backroom undo``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from agent.cli.output import Output, count, duration, moment
from agent.cli.progress import shown
from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from agent.engine.undo import UndoPlan


@command(name="undo")
@click.argument("restore", required=False)
@click.option("--plan", "plan_only", is_flag=True, help="Show what would happen and change nothing.")
@click.option("--keep-changed", is_flag=True, help="Leave rows that were changed since the restore as they are now.")
@click.option("--overwrite-changed", is_flag=True, help="Take rows back even if they were changed since.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
async def undo(
    session: Session, restore: str | None, plan_only: bool, keep_changed: bool, overwrite_changed: bool, yes: bool
) -> None:
    """Take a restore (or a received push) back: the newest, or RESTORE by its id in `backroom history --json`.

    Rows that it changed become as they were, rows that it deleted come back, rows that it inserted go. Rows that
    somebody changed since make it stop, unless you say what to do with them. An undo can be undone by its own id.
    """
    from agent.operations.undoing import find_undoable, plan, take_back
    from agent.operations.workspace import Workspace

    if keep_changed and overwrite_changed:
        raise click.UsageError("Choose one of --keep-changed and --overwrite-changed.")
    workspace = Workspace(session.home)
    output = session.output
    if not (plan_only or yes or output.interactive):
        raise Refused(
            "confirmation-needed",
            "An undo changes the database and nobody is here to be asked.",
            "Look at the plan with --plan, then say --yes.",
        )
    async with workspace.history() as history:
        target = await find_undoable(workspace, history, restore)
        what = target.record.business_name or target.record.kind
        output.say(f"{what}, restored {moment(target.record.started_at)} (restore {target.record.id})")
        if plan_only:
            with shown(output, session.home) as progress:
                planned = await plan(workspace, target, progress=progress)
            show_plan(output, planned)
            output.result({**planned.as_dict(), "restore": target.record.id, "applied": False})
            return

        async def ask(planned: UndoPlan) -> bool:
            show_plan(output, planned)
            return await asyncio.to_thread(click.confirm, "Take it back?", default=False, err=True)

        with shown(output, session.home) as progress:
            result = await take_back(
                workspace,
                history,
                target,
                keep_changed=keep_changed,
                overwrite_changed=overwrite_changed,
                approve=None if yes else ask,
                progress=progress,
            )
    if yes:
        show_plan(output, result.plan)
    output.say(f"Taken back in {duration(result.seconds)}.")
    output.result({**result.as_dict(), "restore": target.record.id, "applied": True})


def show_plan(output: Output, plan: UndoPlan) -> None:
    """The plan for people."""
    totals = plan.totals
    output.say(
        f"{count(totals.delete, 'inserted row')} go, {totals.update:,} changed ones become as they were, "
        f"{totals.insert:,} deleted ones come back"
    )
    output.table(
        ("Table", "Go", "As they were", "Come back", "Changed since"),
        [
            (name, f"{c.delete:,}", f"{c.update:,}", f"{c.insert:,}", f"{c.kept:,}")
            for name, c in plan.tables.items()
            if c.changes or c.kept
        ],
        right=(1, 2, 3, 4),
    )
    for name, keys in plan.changed.items():
        output.note(f"Changed since: {name} {', '.join(keys)}")
