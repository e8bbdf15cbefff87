"""``backroom backup``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.output import count, duration, size
from agent.cli.passphrase import leaving_options, new_passphrase
from agent.cli.progress import shown
from agent.cli.run import Session, command


@command(name="backup")
@click.option("--full", is_flag=True, help="All businesses and everything else that may go to another laptop.")
@click.option("--business", "-b", metavar="B", help="One business, by its id, name or slug.")
@click.option(
    "--full-device", is_flag=True, help="All of this laptop, with its device state. Only it can restore that."
)
@click.option("--no-compress", is_flag=True, help="Keep the rows as they are (larger).")
@click.option("--include-demo", is_flag=True, help="Take demo businesses along.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="A file or folder instead of the archive."
)
@leaving_options
async def backup(
    session: Session,
    full: bool,
    business: str | None,
    full_device: bool,
    no_compress: bool,
    include_demo: bool,
    output: Path | None,
    plain: bool,
    by_passphrase: bool,
    passphrase_file: Path | None,
) -> None:
    """Make a backup: one signed file, kept in the archive.

    With --output it leaves the archive, and is sealed with age to the shop's recovery key and recipients (or with a
    passphrase): FILE.age. --plain writes it as it is. `backroom restore FILE.age` opens it.

    \b
      backroom backup --full
      backroom backup --business "Restaurant ABC"
      backroom backup --full-device --output /media/usb/
      backroom backup --full --output /media/usb/ --passphrase
    """
    from agent.engine.backup import BackupRequest
    from agent.heaps import few_heaps
    from agent.operations.backups import kind_of, make_backup
    from agent.operations.workspace import Workspace

    few_heaps()
    kind = kind_of(full=full, business=business, full_device=full_device)
    if kind is None:
        raise click.UsageError("Say what to back up: one of --full, --business B, --full-device.")
    if output is None and (plain or by_passphrase or passphrase_file):
        raise click.UsageError("--plain and --passphrase go with --output; what is in the archive stays here.")
    workspace = Workspace(session.home)
    lock = None
    if output is not None and not plain:
        from agent.operations.keys import lock_for_leaving

        secret = await new_passphrase(session, plain, by_passphrase, passphrase_file)
        lock = await lock_for_leaving(workspace, passphrase=secret)
    request = BackupRequest(kind, business, compress=not no_compress, include_demo=include_demo)
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            made = await make_backup(workspace, history, request, output=output, lock=lock, progress=progress)
    manifest = made.result.manifest
    what = manifest.business.name if manifest.business else {"full": "Everything"}.get(kind.value, "This laptop")
    session.output.say(
        f"{what}: {count(manifest.total_rows, 'row')} of {count(manifest.table_count, 'table')}, "
        f"{size(made.record.size)} in {duration(made.result.seconds)}"
    )
    session.output.say(f"  {made.file}")
    for warning in manifest.warnings:
        session.output.note(f"Warning: {warning}")
    session.output.result(made.as_dict())
