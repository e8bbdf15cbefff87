"""``backroom prune``."""

from __future__ import annotations

import click

from agent.cli.output import count, moment, size
from agent.cli.run import Refused, Session, command


@command(name="prune")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--all", "show_all", is_flag=True, help="Show what is kept, too, with every reason.")
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
async def prune(session: Session, only_plan: bool, show_all: bool, yes: bool) -> None:
    """Move old backups to the trash, by the rules in config.toml ([retention]); empty what was there for days.

    Of each kind, business and laptop the newest backup of so many days, weeks and months is kept. The newest, the
    last verified one, pinned ones and those in use always stay.
    """
    from agent.operations.prune import plan_prune
    from agent.operations.prune import prune as work
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    output = session.output
    async with workspace.history() as history:
        plan = await plan_prune(workspace, history)
        items = plan.items if show_all or only_plan else plan.removals
        output.table(
            ("Made", "What", "From", "Size", "", "Why"),
            [
                (
                    moment(item.record.created_at),
                    item.record.business_name or item.record.kind,
                    item.record.source_device,
                    size(item.record.size),
                    "keep" if item.keep else "remove",
                    "; ".join(item.reasons),
                )
                for item in items
            ],
            right=(3,),
        )
        for line in plan.notes:
            output.note(f"Note: {line}")
        kept = len(plan.items) - len(plan.removals)
        output.say(
            f"{count(kept, 'backup')} kept, {len(plan.removals):,} to the trash ({size(plan.bytes)}) for "
            f"{count(plan.trash_days, 'day')}, {len(plan.expired):,} deleted from it."
        )
        if only_plan or not (plan.removals or plan.expired):
            output.result(plan.as_dict())
            return
        if not yes:
            if not output.interactive:
                raise Refused("not-confirmed", "Nothing was removed: nobody said yes.", "Add --yes, or --plan to look.")
            if not click.confirm("Go on?", err=True):
                raise Refused("not-confirmed", "Nothing was removed.")
        done = await work(workspace, history)
    for record, why in done.left:
        output.note(f"Left where it is: {record.filename}: {why}")
    output.say(f"{len(done.removed):,} moved to the trash, {len(done.deleted):,} deleted.")
    output.result(done.as_dict())
