"""``backroom identity | authority | renew``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from agent.cli.output import moment
from agent.cli.passphrase import asker, passphrase, passphrase_option
from agent.cli.run import Refused, Session, command

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(name="identity")
def identity() -> None:
    """The recovery kit: what makes this laptop itself, in a sealed file."""


@command(name="export")
@click.argument("file", type=_FILE)
@passphrase_option
@click.option(
    "--recovery-passphrase-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The recovery key's own passphrase, where it is not the kit's (else you are asked).",
)
async def export(
    session: Session, file: Path, passphrase_file: Path | None, recovery_passphrase_file: Path | None
) -> None:
    """Write this laptop's recovery kit into FILE, sealed with a passphrase.

    It holds this laptop's identity, on an admin's laptop the shop's authority, and the keys that open sealed backups;
    where the shop has no recovery key yet, it is made. That the kit opens what is sealed is proved at once.

    Keep it away from the laptop: with it a repaired laptop is itself again (`backroom identity import`), and can take
    its full-device backups. Whoever has the file and the passphrase is this laptop, and reads its backups.
    """
    session.output.result(await make_kit(session, file, passphrase_file, recovery_passphrase_file))


async def make_kit(
    session: Session, file: Path, passphrase_file: Path | None, recovery_passphrase_file: Path | None = None
) -> dict[str, object]:
    """Make the kit and say what is in it; gives what programs are told."""
    from agent.operations.kits import export_kit
    from agent.operations.workspace import Workspace

    secret = await passphrase(session, passphrase_file, new=True)
    done = await export_kit(Workspace(session.home), file, secret, asker(session, recovery_passphrase_file))
    say = session.output.say
    with_it = ", with the shop's authority" if done.authority else ""
    say(f"{done.file} holds the identity of {done.name} ({done.short_id}){with_it}. It was opened once.")
    if done.recovery:
        say(f"  It opens sealed backups: a file that was sealed to {done.recovery} was opened with it.")
    else:
        say("  It opens no sealed backups: the shop's recovery key is on another laptop, and in its kit.")
    return done.as_dict()


@command(name="import")
@click.argument("file", type=_FILE)
@passphrase_option
async def take(session: Session, file: Path, passphrase_file: Path | None) -> None:
    """Make this laptop the device whose recovery kit is FILE: after a repair, with the old laptop gone.

    Never use one kit on two laptops: the second one raises a clone alarm on all others.
    """
    from agent.operations.kits import import_kit
    from agent.operations.workspace import Workspace

    secret = await passphrase(session, passphrase_file)
    done = await import_kit(Workspace(session.home), file, secret)
    session.output.say(f"This laptop is {done.name} ({done.short_id}) again, as of {moment(done.made)}.")
    if done.recovery or done.archive:
        session.output.say("  The keys of its sealed backups are back; the recovery key has the kit's passphrase now.")
    session.output.say("Next: `backroom init --database URL` if it has none, `backroom run`, and restore a backup.")
    session.output.result(done.as_dict())


identity.add_command(export)
identity.add_command(take)


@click.group(name="authority")
def authority() -> None:
    """The key that makes the shop's rules: share it with a second admin, roll it over."""


@command(name="share")
@click.argument("device")
@click.option("--file", type=_FILE, help="Write it into this file instead of sending it.")
@passphrase_option
async def share(session: Session, device: str, file: Path | None, passphrase_file: Path | None) -> None:
    """Share the authority with DEVICE, another admin, so that losing this laptop does not end the shop.

    It goes there sealed with a passphrase that you tell the other admin; there, `backroom authority accept` opens it.
    """
    from agent.operations.governing import share_authority
    from agent.operations.workspace import Workspace

    secret = await passphrase(session, passphrase_file, new=True)
    member = await share_authority(Workspace(session.home), device, secret, file=file)
    session.output.say(
        f"The authority is {f'in {file}' if file else 'on'} {'for ' if file else ''}{member.name}, sealed. There: "
        f"`backroom authority accept{' FILE' if file else ''}`, with the passphrase."
    )
    session.output.result({"node_id": member.node_id, "name": member.name, "file": str(file) if file else None})


@command(name="accept")
@click.argument("file", type=_FILE, required=False)
@passphrase_option
async def accept(session: Session, file: Path | None, passphrase_file: Path | None) -> None:
    """Open the authority that another admin shared with this laptop (or that is in FILE), and keep it."""
    from agent.operations.governing import accept_authority
    from agent.operations.workspace import Workspace

    secret = await passphrase(session, passphrase_file)
    shop = await accept_authority(Workspace(session.home), secret, file=file)
    session.output.say(f"This laptop holds the authority of {shop.shop_name} now.")
    session.output.result({"shop_id": shop.shop_id, "shop": shop.shop_name, "holds_authority": True})


@command(name="roll")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
async def roll(session: Session, yes: bool) -> None:
    """Put a new authority key in the place of the present one: when a laptop that held it was lost or left.

    All laptops follow by themselves, also those that are away now. Share it again with the other admins afterwards.
    """
    from agent.operations.governing import roll_over
    from agent.operations.workspace import Workspace

    output = session.output
    if output.interactive and not yes:
        question = "Roll the authority over? Other admins lose it until you share it again."
        if not await asyncio.to_thread(click.confirm, question, default=False, err=True):
            raise Refused("declined", "Nothing was changed.")
    version, told = await roll_over(Workspace(session.home))
    output.say(f"The shop has a new authority (roster {version}). Revoke the lost laptop now, if you have not yet.")
    output.say(f"Told: {', '.join(told) or 'nobody yet; others learn it when they are online'}.")
    output.result({"roster_version": version, "told": list(told)})


for each in (share, accept, roll):
    authority.add_command(each)


@command(name="renew")
async def renew(session: Session) -> None:
    """Renew this laptop's certificate now. The agent does it by itself half a year before the end."""
    from agent.operations.renewing import renew_certificate
    from agent.operations.workspace import Workspace

    done = await renew_certificate(Workspace(session.home), now=True)
    if done.renewed:
        session.output.say(f"Renewed by {done.by}: valid until {moment(done.until)}.")
    else:
        session.output.say(f"{done.by} asks its admin. Run this again when they have said yes: {done.text}")
    session.output.result({"renewed": done.renewed, "by": done.by, "until": done.until, "message": done.text})
