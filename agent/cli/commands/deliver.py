"""``backroom deliver`` and ``backroom delivery``: bundles to places outside the shop's laptops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from agent.cli.output import moment, size
from agent.cli.passphrase import leaving_options, new_passphrase
from agent.cli.progress import shown
from agent.cli.run import Refused, Session, command


@command(name="deliver")
@click.argument("bundle")
@click.option("--to", required=True, metavar="PLACE", help="A name from `backroom delivery list`, or an address.")
@leaving_options
@click.option("--queue", is_flag=True, help="Leave it to the running agent and return at once.")
async def deliver(
    session: Session,
    bundle: str,
    to: str,
    plain: bool,
    by_passphrase: bool,
    queue: bool,
    passphrase_file: Path | None,
) -> None:
    """Deliver BUNDLE (a path, a file name in the archive, or an id) to a place, sealed with age.

    Where the place cannot be reached it waits, over restarts too, and the running agent tries again.

    \b
      backroom deliver 3f2a --to office-nas
      backroom deliver 3f2a --to email:owner@example.com
      backroom deliver 3f2a --to path:/mnt/nas/backups
      backroom deliver 3f2a --to smb://nas/backups/shop
      backroom deliver 3f2a --to s3://my-bucket/shop
    """
    from agent.operations.deliveries import deliver as send
    from agent.operations.look import find_bundle
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    path = await find_bundle(workspace, bundle)
    secret = await new_passphrase(session, plain, by_passphrase, passphrase_file)
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            done = await send(
                workspace, history, path, to, plain=plain, passphrase=secret, only_queue=queue, progress=progress
            )
    say, found = session.output.say, done.delivered
    if found is None:
        say(f"{done.job.name} waits as {done.job.id} for {done.job.where}: the running agent delivers it.")
    else:
        say(f"{done.job.name} is {'there already' if found.already else 'delivered'}: {found.where}")
        say(f"  {size(done.job.size)}, proved: {found.proof}; sealed: {done.job.sealed}")
    session.output.result(done.as_dict())


@click.group(name="delivery")
def delivery() -> None:
    """Places to deliver backups to, and what waits for them."""


@command(name="add")
@click.argument("name")
@click.option("--email", "kind", flag_value="email", help="Email; needs --server, --from and --to.")
@click.option("--folder", "kind", flag_value="folder", help="A folder, such as a mounted share; needs --path.")
@click.option("--smb", "kind", flag_value="smb", help="A network share; needs --url smb://server/share/folder.")
@click.option("--cloud", "kind", flag_value="cloud", help="A cloud; needs --url s3://bucket/folder (gs://, az://).")
@click.option("--path", metavar="DIR", help="The folder.")
@click.option("--url", metavar="URL", help="The share or bucket. No password in it.")
@click.option("--server", metavar="HOST", help="The SMTP server.")
@click.option("--port", type=click.IntRange(1, 65535), help="Its port (587; with tls 465).")
@click.option("--security", type=click.Choice(["starttls", "tls", "none"]), help="How mail is protected (starttls).")
@click.option("--from", "sender", metavar="ADDRESS", help="The address that mail comes from.")
@click.option("--to", metavar="ADDRESSES", help="Where mail goes to, separated by commas.")
@click.option("--max-mb", type=click.IntRange(1, 1000), help="The largest mail that the receiver takes (25).")
@click.option("--user", metavar="USER", help="The login (S3: the access key's ID; Azure: the account).")
@click.option("--domain", metavar="DOMAIN", help="The Windows domain of the user.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For clouds: endpoint=..., region=...")
@click.option("--recipients", metavar="KEYS", help="age recipients of this place, instead of the shop's.")
@click.option("--plain", is_flag=True, default=None, help="Never seal what goes there.")
async def add(session: Session, name: str, kind: str | None, options: tuple[str, ...], **settings: object) -> None:
    """Set up the place NAME. Its password is asked for (or BACKROOM_DELIVERY_<NAME>_PASSWORD in the environment).

    \b
      backroom delivery add office-nas --smb --url smb://nas/backups/shop --user clerk
      backroom delivery add owner --email --server smtp.example.com --user u --from shop@example.com --to me@example.com
    """
    from pydantic import ValidationError

    from agent.config_delivery import DeliverySettings
    from agent.operations.deliveries import add_place
    from agent.operations.workspace import Workspace

    if kind is None:
        raise click.UsageError("Say what it is: one of --email, --folder, --smb, --cloud.")
    given = {key: value for key, value in settings.items() if value is not None}
    pairs = dict(each.partition("=")[::2] for each in options)
    values = {"name": name, "kind": kind, **given, **({"options": pairs} if pairs else {})}
    try:
        place = DeliverySettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise click.UsageError(f"{where + ': ' if where else ''}{reason}.") from None
    if place.user and session.output.interactive:
        words = f"Password of {place.user} (empty: taken from {place.password_variable})"
        secret = await asyncio.to_thread(click.prompt, words, hide_input=True, default="", show_default=False, err=True)
        if secret:
            place = DeliverySettings.model_validate({**values, "password": secret})
    workspace = Workspace(session.home)
    await asyncio.to_thread(add_place, workspace, place)
    session.output.say(f"{place.name} is set up. Try it with `backroom delivery test {place.name}`.")
    session.output.result(place.public())


@command(name="list")
async def listed(session: Session) -> None:
    """List the places that backups can be delivered to (see `backroom delivery add`)."""
    from agent.delivery.places import open_place
    from agent.operations.workspace import Workspace

    places = Workspace(session.home).config.delivery
    session.output.table(("Name", "Kind", "Where"), [(each.name, each.kind, open_place(each).where) for each in places])
    if not places:
        session.output.note("No place is set up. See `backroom delivery add --help`.")
    session.output.result([each.public() for each in places])


@command(name="remove")
@click.argument("name")
async def remove(session: Session, name: str) -> None:
    """Remove a place. What is there stays there."""
    from agent.operations.deliveries import remove_place
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    place = await asyncio.to_thread(remove_place, workspace, name)
    session.output.say(f"{place.name} is removed.")
    session.output.result({"removed": place.name})


@command(name="test")
@click.argument("place")
async def test(session: Session, place: str) -> None:
    """Connect to PLACE (a name or an address), log in and write a small file; nothing is delivered."""
    from agent.operations.deliveries import try_place
    from agent.operations.workspace import Workspace

    words = await try_place(Workspace(session.home), place)
    session.output.say(words)
    session.output.result({"ok": True, "message": words})


@command(name="files")
@click.argument("place")
async def files(session: Session, place: str) -> None:
    """List the backups that lie at PLACE (a name or an address): `backroom restore PLACE:FILE` restores one."""
    from agent.operations.bringing import files_at
    from agent.operations.workspace import Workspace

    where, found = await files_at(Workspace(session.home), place)
    session.output.table(("File", "Size"), [(each.name, size(each.size)) for each in found], right=(1,))
    if not found:
        session.output.note(f"{where} has no backups.")
    session.output.result({"where": where, "files": [{"name": each.name, "bytes": each.size} for each in found]})


@command(name="queue")
async def queued(session: Session) -> None:
    """List the deliveries that wait or failed."""
    from agent.operations.posting import outbox
    from agent.operations.workspace import Workspace

    jobs = await asyncio.to_thread(outbox(Workspace(session.home)).jobs)
    session.output.table(
        ("Id", "File", "To", "State", "Tries", "Next", "Why"),
        [
            (
                job.id,
                job.name,
                job.where,
                job.state,
                str(job.attempts),
                moment(job.next_at) if job.state == "waiting" else "",
                job.error or "",
            )
            for job in jobs
        ],
        right=(4,),
    )
    if not jobs:
        session.output.note("No delivery waits.")
    session.output.result([job.public() for job in jobs])


@command(name="retry")
@click.argument("delivery_id", metavar="ID")
async def again(session: Session, delivery_id: str) -> None:
    """Try a waiting or failed delivery now."""
    from agent.operations.deliveries import hand_over, retry
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    job = await retry(workspace, delivery_id)
    with shown(session.output, session.home) as progress:
        async with workspace.history() as history:
            done = await hand_over(workspace, history, job, progress=progress)
    if done.delivered is None:
        raise Refused("delivery-waits", f"{job.name} still waits.")
    session.output.say(f"{job.name} is delivered: {done.delivered.where}")
    session.output.result(done.as_dict())


@command(name="drop")
@click.argument("delivery_id", metavar="ID")
async def dropped(session: Session, delivery_id: str) -> None:
    """Take a delivery out of the queue. The bundle stays in the archive."""
    from agent.operations.deliveries import drop
    from agent.operations.workspace import Workspace

    job = await drop(Workspace(session.home), delivery_id)
    session.output.say(f"{job.name} is no longer waiting for {job.where}.")
    session.output.result({"dropped": job.id})


for each in (add, listed, remove, test, files, queued, again, dropped):
    delivery.add_command(each)
