"""``backroom archive check | rebuild | note | pin | unpin | trash | untrash``."""

from __future__ import annotations

import click

from agent.cli.output import count, moment
from agent.cli.progress import shown
from agent.cli.run import FAILED, Session, command


@click.group(name="archive")
def archive() -> None:
    """Look after the archive: files and history held together, notes, pins, the trash."""


@command(name="check")
async def check(session: Session) -> int | None:
    """Hold files and history against each other: files without record, records without file, renamed files.

    Exits with 1 where they do not fit. What is in the files is for `backroom verify`.
    """
    from agent.operations.care import look_over
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with workspace.history() as history:
        seen = await look_over(workspace, history)
    say = session.output.say
    say(f"{count(len(seen.present), 'backup')} with file and record.")
    for record in seen.without_file:
        say(f"Without file    {record.filename}: {record.path} is not there")
    for path in seen.without_record:
        say(f"Without record  {path}")
    for renamed in seen.renamed:
        say(f"Renamed         {renamed.record.filename} is now {renamed.file.name}")
    for path, problem in seen.unreadable:
        say(f"Unknown         {path}: {problem}")
    for record in seen.present:
        if record.damage:
            say(f"Damaged         {record.filename}: {record.damage}")
    if not seen.whole:
        session.output.note("`backroom archive rebuild` makes the history say what the archive holds.")
    session.output.result(seen.as_dict())
    return None if seen.whole else FAILED


@command(name="rebuild")
async def rebuild(session: Session) -> None:
    """Make the history anew from the files: every file without record is verified and noted.

    Records whose file is gone are kept as removed. Notes, pins, pushes and restores stay.
    """
    from agent.operations.care import rebuild as work
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            done = await work(workspace, history, progress=progress)
    say = session.output.say
    say(f"{count(len(done.added), 'backup')} added, {len(done.renamed)} renamed, {len(done.gone)} gone.")
    for path, problem in done.refused:
        session.output.note(f"Left out: {path}: {problem}")
    session.output.result(done.as_dict())


@command(name="note")
@click.argument("backup")
@click.argument("words", nargs=-1)
async def note(session: Session, backup: str, words: tuple[str, ...]) -> None:
    """Put a note on BACKUP (id or file name); without WORDS, take it away."""
    from agent.operations.care import note as put
    from agent.operations.workspace import Workspace

    async with Workspace(session.home).history() as history:
        record = await put(history, backup, " ".join(words))
    session.output.say(f"{record.filename}: {record.notes or 'no note'}")
    session.output.result({"bundle_id": record.id, "notes": record.notes, "pinned": record.pinned})


async def _pin(session: Session, backup: str, *, pinned: bool) -> None:
    from agent.operations.care import pin as put
    from agent.operations.workspace import Workspace

    async with Workspace(session.home).history() as history:
        record = await put(history, backup, pinned=pinned)
    session.output.say(f"{record.filename}: {'pinned, no rule removes it' if pinned else 'not pinned'}")
    session.output.result({"bundle_id": record.id, "notes": record.notes, "pinned": record.pinned})


@command(name="pin")
@click.argument("backup")
async def pin(session: Session, backup: str) -> None:
    """Pin BACKUP (id or file name): no rule removes it."""
    await _pin(session, backup, pinned=True)


@command(name="unpin")
@click.argument("backup")
async def unpin(session: Session, backup: str) -> None:
    """Let the rules decide about BACKUP again."""
    await _pin(session, backup, pinned=False)


@command(name="trash")
@click.argument("backup")
async def trash(session: Session, backup: str) -> None:
    """Move BACKUP (id or file name) to the trash, whatever the rules say; `untrash` takes it back for some days."""
    from agent.operations.care import find_record
    from agent.operations.prune import to_trash
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with workspace.history() as history:
        record = await to_trash(workspace, history, await find_record(history, backup))
    session.output.say(f"{record.filename} is in the trash. `backroom archive untrash {record.id}` takes it back.")
    session.output.result({"bundle_id": record.id, "path": record.path})


@command(name="untrash")
@click.argument("backup")
async def untrash(session: Session, backup: str) -> None:
    """Take BACKUP (id or file name) back out of the trash, and pin it."""
    from agent.operations.care import untrash as take
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with workspace.history() as history:
        record = await take(workspace, history, backup)
    session.output.say(f"{record.filename} of {moment(record.created_at)} is back, and pinned.")
    session.output.result({"bundle_id": record.id, "path": record.path, "pinned": record.pinned})


for each in (check, rebuild, note, pin, unpin, trash, untrash):
    archive.add_command(each)
