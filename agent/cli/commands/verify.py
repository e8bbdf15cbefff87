"""``backroom verify``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.output import count, duration, size
from agent.cli.passphrase import asker, identity_option, passphrase_option
from agent.cli.progress import shown
from agent.cli.run import FAILED, Session, command


@command(name="verify")
@click.argument("files", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every backup of the archive.")
@click.option("--due", is_flag=True, help="Those that were not verified in the last 30 days.")
@click.option("--deep", is_flag=True, help="Unpack every block and follow every reference, too.")
@identity_option
@passphrase_option
async def verify(
    session: Session,
    files: tuple[str, ...],
    everything: bool,
    due: bool,
    deep: bool,
    identity: Path | None,
    passphrase_file: Path | None,
) -> int | None:
    """Verify FILES (paths, names in the archive, ids): every byte, the seal, the signature.

    Sealed FILES (.age) are opened with the recovery key (its passphrase is asked for) or --identity. With --all and
    --due sealed copies outside the archive are held against the checksum in the history instead.

    The history keeps when each held, and what is wrong with one that does not. Exits with 1 where one does not hold.
    """
    from agent.heaps import few_heaps
    from agent.operations.keys import unlock
    from agent.operations.verify import files_to_verify, find_files, verify_files
    from agent.operations.workspace import Workspace

    few_heaps()
    if bool(files) + everything + due != 1:
        raise click.UsageError("Say what to verify: FILES, --all or --due.")
    workspace = Workspace(session.home)
    done = []
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            if files:
                wanted = await find_files(workspace, history, files)
                given = identity is not None or passphrase_file is not None
                for path, _ in wanted:
                    if path.is_file() and (given or not path.is_relative_to(session.home.archive)):
                        await unlock(workspace, path, asker(session, passphrase_file), identity=identity)
            else:
                wanted = await files_to_verify(workspace, history, due=due)
            async for each in verify_files(workspace, history, wanted, deep=deep, progress=progress):
                done.append(each)
                if each.problem:
                    session.output.say(f"NOT VALID  {each.file}\n  {each.problem}")
                elif files:
                    session.output.say(f"valid  {each.file.name}")
    bad = [each for each in done if not each.ok]
    total, seconds = sum(each.size for each in done), sum(each.seconds for each in done)
    session.output.say(
        f"{count(len(done) - len(bad), 'backup')} valid ({size(total)}, {duration(seconds)}), {len(bad)} not."
    )
    if deep and any(each.looked and not each.looked.edges for each in done):
        session.output.note("References were not followed where the bundle's schema is not that of this database.")
    session.output.result({"ok": not bad, "valid": len(done) - len(bad), "files": [each.as_dict() for each in done]})
    return FAILED if bad else None
