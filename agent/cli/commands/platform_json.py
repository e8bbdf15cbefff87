"""``backroom export | import``: the platform's own backup files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.output import Output, count, duration, moment, size
from agent.cli.passphrase import asker, identity_option, leaving_options, new_passphrase, passphrase_option
from agent.cli.progress import shown
from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from agent.archive.history import History
    from agent.engine.bundle_file import VerifiedBundle
    from agent.engine.plan import RestorePlan
    from agent.operations.platform_json import Imported
    from agent.operations.workspace import Workspace


@command(name="export")
@click.argument("bundle")
@click.option(
    "--format", "form", type=click.Choice(["json"]), default="json", show_default=True, help="The platform's own form."
)
@click.option("--no-compress", is_flag=True, help="Write .json instead of .json.gz.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="A file or folder (else: this folder)."
)
@leaving_options
@identity_option
async def export(
    session: Session,
    bundle: str,
    form: str,
    no_compress: bool,
    output: Path | None,
    plain: bool,
    by_passphrase: bool,
    passphrase_file: Path | None,
    identity: Path | None,
) -> None:
    """Write BUNDLE as a backup file of the platform, for it or for people to read.

    BUNDLE is a path, a file name in the archive, or a bundle's id. The file is not signed, and leaves the laptop: it is
    sealed with age (.json.gz.age) to the shop's recovery key and recipients, or with a passphrase. The platform itself
    reads only what is exported with --plain, and so does everybody else who gets hold of it.

    \b
      backroom export backup-full-20260101-153045.bundle
      backroom export backup-full-20260101-153045.bundle --no-compress --plain --output /media/usb/
    """
    from agent.operations.bringing import readable
    from agent.operations.keys import lock_for_leaving
    from agent.operations.platform_json import export_bundle
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    secret = await new_passphrase(session, plain, by_passphrase, passphrase_file)
    lock = await lock_for_leaving(workspace, plain=plain, passphrase=secret)
    with shown(session.output, session.home) as progress:
        async with readable(workspace, bundle, asker(session, None), identity=identity, progress=progress) as path:
            made = await export_bundle(
                workspace, path, output=output, compress=not no_compress, lock=lock, progress=progress
            )
    session.output.say(
        f"{count(made.manifest.total_rows, 'row')} of {count(made.manifest.table_count, 'table')}, "
        f"{size(made.size)} in {duration(made.result.seconds)}"
    )
    session.output.say(f"  {made.file}")
    for note in made.result.notes:
        session.output.note(f"Note: {note}")
    session.output.result(made.as_dict())


@command(name="import")
@click.argument("file")
@click.option("--plan", "plan_only", is_flag=True, help="Then show what restoring it would do, and change nothing.")
@click.option("--restore", "restore_too", is_flag=True, help="Then restore it: the plan is shown before it is applied.")
@click.option(
    "--conflicts",
    type=click.Choice(["newer", "bundle", "local"]),
    help="With --plan or --restore: which row wins where both sides have one.",
)
@click.option("--skip-unknown", is_flag=True, help="Leave out tables and columns that this database does not have.")
@click.option("--skip-device-data", is_flag=True, help="Leave out the state of the device that made the file.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@identity_option
@passphrase_option
async def import_(
    session: Session, file: str, identity: Path | None, passphrase_file: Path | None, **chosen: Any
) -> None:
    """Take FILE, a backup file of the platform (.json or .json.gz, also sealed), into the archive as a bundle.

    Such a file carries no signature: nothing proves who made it. Its checksum is checked, every value is checked
    against this laptop's tables, and device data is refused. The database is changed only by --restore.

    \b
      backroom import backup-full-20260101-153045.json.gz
      backroom import backup-full-20260101-153045.json.gz --restore
    """
    from agent.engine.import_plan import ImportOptions
    from agent.operations.bringing import readable
    from agent.operations.platform_json import import_file
    from agent.operations.workspace import Workspace

    workspace, output = Workspace(session.home), session.output
    plan_only, restore_too = chosen["plan_only"], chosen["restore_too"]
    if plan_only and restore_too:
        raise click.UsageError("Say one of --plan and --restore.")
    if chosen["conflicts"] and not (plan_only or restore_too):
        raise click.UsageError("--conflicts goes with --plan or --restore.")
    if restore_too and not (chosen["yes"] or output.interactive):
        raise Refused(
            "confirmation-needed",
            "A restore changes the database and nobody is here to be asked.",
            "Look at the plan with --plan, then say --restore --yes.",
        )
    options = ImportOptions(skip_unknown=chosen["skip_unknown"], skip_device=chosen["skip_device_data"])
    async with workspace.history() as history:
        with shown(output, session.home) as progress:
            ask = asker(session, passphrase_file)
            async with readable(workspace, file, ask, identity=identity, progress=progress) as path:
                made = await import_file(workspace, history, path, options=options, progress=progress)
        _tell(output, made)
        answer = made.as_dict()
        if plan_only or restore_too:
            answer["restore"] = await _restore(session, workspace, history, made, chosen)
        else:
            output.say(f"Next: `backroom restore {made.file.name} --plan` shows what restoring it would do.")
    output.result(answer)


def _tell(output: Output, made: Imported) -> None:
    manifest, metadata = made.manifest, made.looked.metadata
    what = manifest.business.name if manifest.business else "Everything"
    output.say(
        f"{what}: {count(manifest.total_rows, 'row')} of {count(manifest.table_count, 'table')}, "
        f"{size(made.record.size)} in {duration(made.seconds)}"
    )
    output.say(f"  {made.file}{' (imported before)' if made.again else ''}")
    who = metadata.source_device or metadata.source_node
    output.say(f"  The file says: made {moment(manifest.created)} on {who}. It is not signed; nothing proves that.")
    output.say(f"  Checksum: {'holds' if made.looked.checked else 'the file has none'}.")
    for warning in manifest.warnings[1:]:
        output.note(f"Warning: {warning}")


async def _restore(
    session: Session, workspace: Workspace, history: History, made: Imported, chosen: dict[str, Any]
) -> dict[str, object]:
    """Plan or restore the bundle that was made; the answer's part about it."""
    from agent.cli.commands.restore import show_plan
    from agent.database.merge import Conflicts
    from agent.operations.applying import totals
    from agent.operations.restores import plan_file, restore_file

    output = session.output
    policy = Conflicts(chosen["conflicts"] or workspace.config.conflicts)
    if chosen["plan_only"]:
        with shown(output, session.home) as progress:
            plan = await plan_file(workspace, history, made.file, conflicts=policy, progress=progress)
        show_plan(output, plan)
        return {**plan.as_dict(), **totals(plan), "applied": False}

    async def ask(bundle: VerifiedBundle, plan: RestorePlan) -> bool:
        show_plan(output, plan)
        return await asyncio.to_thread(click.confirm, "Apply this?", default=False, err=True)

    approve = None if chosen["yes"] else ask
    with shown(output, session.home) as progress:
        result = await restore_file(workspace, history, made.file, conflicts=policy, approve=approve, progress=progress)
    if approve is None:
        show_plan(output, result.plan)
    output.say(f"Done in {duration(result.seconds)}.")
    return {**result.as_dict(), **totals(result.plan), "applied": True}


def __getattr__(name: str) -> click.Command:
    """``import`` is a word of Python: the command of that name is found here."""
    if name == "import":
        return import_
    raise AttributeError(name)
