"""``backroom drill``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.output import count, duration
from agent.cli.passphrase import asker, identity_option, passphrase_option
from agent.cli.progress import shown
from agent.cli.run import FAILED, Session, command


@command(name="drill")
@click.argument("backups", nargs=-1)
@click.option("--database", metavar="URL", help="Where to make the scratch tables, instead of an embedded PostgreSQL.")
@identity_option
@passphrase_option
async def drill(
    session: Session,
    backups: tuple[str, ...],
    database: str | None,
    identity: Path | None,
    passphrase_file: Path | None,
) -> int | None:
    """Restore backups for real into a scratch database, compare every row, write to it, drop it.

    Without BACKUPS (ids or file names) the newest one of each kind, business and laptop. Your own database is only
    read: for its tables' definitions. The result is kept in the history. Exits with 1 where a drill fails.
    """
    from agent.operations.care import find_record
    from agent.operations.drills import drill as hold
    from agent.operations.keys import unlock
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    done = []
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            chosen = tuple([await find_record(history, text) for text in backups]) or None
            for path in (workspace.archive.locate(each.path) for each in chosen or ()):
                if path.is_file():
                    await unlock(workspace, path, asker(session, passphrase_file), identity=identity)
            async for each in hold(workspace, history, database=database, backups=chosen, progress=progress):
                done.append(each)
                what = each.backup.business_name or each.backup.kind
                if each.passed:
                    told = f"{count(each.record.rows, 'row')} of {count(each.record.tables, 'table')}"
                    session.output.say(
                        f"passed  {what} from {each.backup.source_device}: {told}, {duration(each.seconds)}"
                    )
                else:
                    session.output.say(f"FAILED  {what} from {each.backup.source_device}: {each.record.error}")
                    session.output.say(f"        {each.backup.filename}")
                for part in each.left_out:
                    session.output.note(f"Note: not made in the scratch database: {part}")
    session.output.result({"passed": all(each.passed for each in done), "drills": [each.as_dict() for each in done]})
    return None if all(each.passed for each in done) else FAILED
