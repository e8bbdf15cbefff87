"""``backroom init``."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.commands.identity import make_kit
from agent.cli.output import count
from agent.cli.passphrase import passphrase_option
from agent.cli.run import Session, command


@command(name="init")
@click.option(
    "--database",
    metavar="URL",
    envvar="BACKROOM_DATABASE_URL",
    help="The platform's database (DATABASE_URL in its .env).",
)
@click.option("--name", metavar="NAME", help='How the other laptops call this one, like "laptop-finance-001".')
@click.option("--port", type=click.IntRange(0, 65535), help="The port for other laptops (47600; 0: any free one).")
@click.option(
    "--kit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Make the recovery kit, too, and prove that it opens sealed backups (asks for its passphrase).",
)
@passphrase_option
async def init(
    session: Session,
    database: str | None,
    name: str | None,
    port: int | None,
    kit: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Set this laptop up: check the database, name the laptop, make its key.

    Running it again changes what is given and keeps the rest; the key stays for life.

    \b
      backroom init --database postgresql://user:password@localhost:5432/shop --name laptop-office-001
      backroom init --kit /media/stick/laptop-office-001.kit

    A password on a command line can be seen by other users of the computer: BACKROOM_DATABASE_URL in the environment
    does the same.
    """
    from agent.operations.setup import set_up

    done = await set_up(session.home, database=database, name=name, port=port)
    say = session.output.say
    say(f"{'Set up' if done.new else 'Changed'}: this laptop is {done.name} ({done.short_id}).")
    say(f"  Data folder  {done.home}")
    seen = f"{count(done.tables, 'table')}, {count(done.businesses, 'business', 'businesses')}"
    say(f"  Database     {done.server}, {seen}")
    if done.unclassified:
        say(f"  Not classified: {', '.join(done.unclassified)} (see `backroom tables`)")
    if kit is not None:
        made = await make_kit(session, kit, passphrase_file)
        session.output.result({**done.as_dict(), "kit": made})
        return
    if done.new:
        say('Next: `backroom shop create "NAME"` on the first laptop, `backroom join CODE` on the others.')
        say("Then: `backroom identity export FILE` makes the recovery kit; without it nobody opens sealed backups.")
    session.output.result(done.as_dict())
