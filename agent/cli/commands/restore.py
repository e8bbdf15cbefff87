"""``backroom restore``."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.output import Output, count, duration
from agent.cli.passphrase import asker, identity_option, passphrase_option
from agent.cli.progress import shown
from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from agent.engine.bundle_file import VerifiedBundle
    from agent.engine.choices import Choices
    from agent.engine.plan import RestorePlan


@command(name="restore")
@click.argument("file")
@click.option("--plan", "plan_only", is_flag=True, help="Show what would happen and change nothing.")
@click.option(
    "--conflicts",
    type=click.Choice(["newer", "bundle", "local"]),
    help="Which row wins where both sides have one: the newer, the bundle's (default), or the one here.",
)
@click.option("--mirror", is_flag=True, help="Make the business exactly the bundle's: its other rows here go.")
@click.option("--keep-local", is_flag=True, help="Leave out rows whose number another row here has, and their parts.")
@click.option("--renumber", is_flag=True, help="Give such rows the next free number instead.")
@click.option("--only", multiple=True, metavar="TABLE", help="Only this table and what it needs (repeatable).")
@click.option("--as-new", metavar="NAME", help="Make a second business of this name from the bundle.")
@click.option("--with-history", is_flag=True, help="With --as-new: its orders, payroll and stock movements too.")
@click.option("--show", multiple=True, metavar="TABLE", help="With the plan: some rows of this table (repeatable).")
@click.option("--apply-plan", metavar="DIGEST", help="Apply the plan of this digest and nothing else, without asking.")
@click.option("--trust-source", is_flag=True, help="Restore a file that a device outside this shop made.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@identity_option
@passphrase_option
async def restore(
    session: Session,
    file: str,
    plan_only: bool,
    conflicts: str | None,
    mirror: bool,
    keep_local: bool,
    renumber: bool,
    only: tuple[str, ...],
    as_new: str | None,
    with_history: bool,
    show: tuple[str, ...],
    apply_plan: str | None,
    trust_source: bool,
    yes: bool,
    identity: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Restore a bundle into this laptop's database: all of it, or nothing.

    FILE is a path (of a sealed .age file too), a file name in the archive, a bundle's id, or what was delivered:
    smb://server/share/FILE, s3://bucket/FILE, PLACE:FILE (`backroom delivery files PLACE` lists them). Rows that the
    bundle does not have stay as they are. The plan is shown before anything changes; exactly that plan is applied.

    \b
      backroom restore backup-business-restaurant-abc-20260101-153045.bundle --plan
      backroom restore backup-business-restaurant-abc-20260101-153045.bundle --conflicts newer
      backroom restore backup-business-restaurant-abc-20260101-153045.bundle --as-new "Restaurant North"
    """
    from agent.database.merge import Conflicts
    from agent.engine.choices import Choices
    from agent.heaps import few_heaps
    from agent.operations.applying import totals
    from agent.operations.bringing import named, readable
    from agent.operations.restores import estimated_seconds, plan_file, proved, restore_file
    from agent.operations.workspace import Workspace

    few_heaps()
    workspace = Workspace(session.home)
    output = session.output
    choices = Choices(mirror, keep_local, renumber, only, as_new, with_history)
    _check(choices, conflicts, plan_only=plan_only, apply_plan=apply_plan)
    policy = Conflicts(conflicts or workspace.config.conflicts)
    yes = yes or apply_plan is not None
    if not (plan_only or yes or output.interactive):
        raise Refused(
            "confirmation-needed",
            "A restore changes the database and nobody is here to be asked.",
            "Look at the plan with --plan, then say --yes.",
        )
    ask_secret = asker(session, passphrase_file)
    async with AsyncExitStack() as stack:
        with shown(output, session.home) as progress:
            wanted = readable(workspace, file, ask_secret, identity=identity, progress=progress)
            path = await stack.enter_async_context(wanted)
        history = await stack.enter_async_context(workspace.history())
        if plan_only:
            with shown(output, session.home) as progress:
                plan = await plan_file(
                    workspace,
                    history,
                    path,
                    conflicts=policy,
                    choices=choices,
                    trust_source=trust_source,
                    show=show,
                    progress=progress,
                )
            show_plan(output, plan)
            seconds = await estimated_seconds(history, plan)
            output.say(f"Plan {plan.digest[:12]}" + (f", about {duration(seconds)}" if seconds is not None else ""))
            output.result({**plan.as_dict(), **totals(plan), "estimated_seconds": seconds, "applied": False})
            return

        async def ask(bundle: VerifiedBundle, plan: RestorePlan) -> bool:
            show_plan(output, plan)
            return await asyncio.to_thread(click.confirm, "Apply this?", default=False, err=True)

        with shown(output, session.home) as progress:
            result = await restore_file(
                workspace,
                history,
                path,
                conflicts=policy,
                choices=choices,
                trust_source=trust_source,
                approve=None if yes else ask,
                expected=apply_plan,
                progress=progress,
            )
        proof = await proved(workspace, path, result, choices) if policy is Conflicts.BUNDLE or mirror else None
    if yes:
        show_plan(output, result.plan)
    output.say(f"Done in {duration(result.seconds)}.")
    if proof is not None and proof.identical:
        output.say(f"Compared with the bundle: identical, {count(proof.rows, 'row')}.")
    elif proof is not None:
        differing = [name for name, table in proof.tables.items() if not table.identical]
        output.say(f"Compared with the bundle: rows that it does not have, or that it left, in {', '.join(differing)}.")
    output.result(
        {
            **result.as_dict(),
            **totals(result.plan),
            "file": named(path, file),
            "applied": True,
            "identical": proof.identical if proof is not None else None,
        }
    )


def _check(choices: Choices, conflicts: str | None, *, plan_only: bool, apply_plan: str | None) -> None:
    """Refuse choices that contradict each other."""
    pairs = (
        (choices.mirror and conflicts, "--mirror takes the bundle's rows; --conflicts has no say in it."),
        (choices.mirror and choices.only, "--mirror is of the whole business; --only is not."),
        (choices.mirror and (choices.keep_local or choices.renumber), "--mirror leaves no other row with a number."),
        (choices.keep_local and choices.renumber, "Rows are left out (--keep-local) or renumbered, not both."),
        (choices.as_new and (choices.mirror or choices.only), "--as-new makes a whole business beside the others."),
        (plan_only and apply_plan, "--plan shows a plan, --apply-plan applies one."),
        (choices.with_history and not choices.as_new, "--with-history goes with --as-new."),
    )
    for wrong, why in pairs:
        if wrong:
            raise click.UsageError(why)


def show_plan(output: Output, plan: RestorePlan) -> None:
    """The plan for people: numbers for each table that changes, then what needs a look."""
    what = plan.business.name if plan.business else plan.kind.value
    counts = plan.totals
    output.say(
        f"{what}: {count(counts.insert, 'new row')}, {counts.update:,} changed, {counts.unchanged:,} unchanged, "
        f"{counts.kept:,} kept as they are here, {counts.delete:,} deleted"
        + (f", {counts.reidentified:,} under another id" if counts.reidentified else "")
        + (f", {counts.left_out:,} left out" if counts.left_out else "")
    )
    output.table(
        ("Table", "New", "Changed", "Unchanged", "Kept", "Deleted"),
        [
            (name, *(f"{number:,}" for number in (c.insert, c.update, c.unchanged, c.kept + c.stub, c.delete)))
            for name, c in sorted(plan.tables.items())
            if c.changes or c.kept or c.duplicate
        ],
        right=(1, 2, 3, 4, 5),
    )
    for name, rows in plan.examples.items():
        output.say(f"{name}, for example:" if rows else f"{name}: no row changes")
        for row in rows:
            values = ", ".join(f"{c.column}: {c.bundle} (here {c.here})" for c in row.columns)
            output.say(f"  {row.what} {row.key} {values}")
    for line in (*map(str, plan.duplicates), *map(str, plan.skipped), *plan.warnings):
        output.note(f"Warning: {line}")
    for table in plan.deleted:
        output.note(f"Deleted in {table.table}: {table.rows:,} ({', '.join(table.examples)})")
    for name, counts in plan.tables.items():
        if counts.left_out:
            output.note(f"Left out of {name}: {count(counts.left_out, 'row')} of the bundle")
    for same in plan.reidentified:
        output.note(f"Same thing, other id in {same.table}: {count(same.rows, 'row')} here take the bundle's id.")
    for line in (*map(str, plan.unclear), *map(str, plan.renumbered)):
        output.note(line)
    for queue in plan.dequeued:
        waiting = count(queue.rows, "waiting entry", "waiting entries")
        output.note(f"Note: {waiting} of {queue.table} will go, since the rows that they tell of are replaced.")
    for placeholder in plan.placeholders:
        output.note(f"Note: {count(placeholder.rows, 'inactive row')} made in {placeholder.table} for other laptops.")
