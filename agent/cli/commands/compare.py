"""``backroom compare``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.output import count
from agent.cli.passphrase import asker, identity_option, passphrase_option
from agent.cli.progress import shown
from agent.cli.run import Session, command


@command(name="compare")
@click.option("--business", "-b", metavar="B", required=True, help="The business, by its id, name or slug.")
@click.option("--with", "other", metavar="DEVICE_OR_FILE", required=True, help="A laptop of the shop, or a bundle.")
@click.option("--trust-source", is_flag=True, help="Read a bundle that a device outside this shop made.")
@identity_option
@passphrase_option
async def compare(
    session: Session,
    business: str,
    other: str,
    trust_source: bool,
    identity: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Prove that a business is the same here and on another laptop (or in a bundle): "identical", or what differs.

    Only digests travel, never the rows. A difference is an answer, not an error: the exit code is 0.

    \b
      backroom compare --business "Restaurant ABC" --with laptop-sales-002
    """
    from agent.operations.comparing import compare_business
    from agent.operations.workspace import Workspace

    with shown(session.output) as progress:
        done = await compare_business(
            Workspace(session.home),
            business,
            other,
            trust_source=trust_source,
            ask=asker(session, passphrase_file),
            identity=identity,
            progress=progress,
        )
    result = done.comparison
    say = session.output.say
    if result.identical:
        say(f"{done.business.name} is identical here and in {done.other}: {count(result.rows, 'row')}.")
    else:
        say(f"{done.business.name} differs between here and {done.other}:")
        session.output.table(
            ("Table", "Differ", "Newer here", "Newer there", "Only here", "Only there", "For example"),
            [
                (
                    name,
                    *(f"{n:,}" for n in (t.differ, t.newer_here, t.newer_there, t.only_here, t.only_there)),
                    ", ".join(t.examples[:2]),
                )
                for name, t in result.tables.items()
                if not t.identical
            ],
            right=(1, 2, 3, 4, 5),
        )
    for note in result.notes:
        session.output.note(f"Note: {note}")
    session.output.result(done.as_dict())
