"""``backroom businesses | tables | inspect``: looking without changing anything."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.output import count, moment, size
from agent.cli.passphrase import asker, identity_option, passphrase_option
from agent.cli.run import FAILED, Session, command


@command(name="businesses")
async def businesses(session: Session) -> None:
    """List the businesses in this laptop's database.

    "Only its name": its row came along because rows of another business refer to it; nothing else of it is here.
    """
    from agent.operations import look
    from agent.operations.workspace import Workspace

    found, names = await look.businesses_here(Workspace(session.home))

    session.output.table(
        ("Business", "Id", ""),
        [
            (each.name, each.id, "only its name" if each.id in names else "demo" if each.is_demo else "")
            for each in found
        ],
    )
    session.output.result(
        [
            {
                "id": each.id,
                "name": each.name,
                "slug": each.slug,
                "demo": each.is_demo,
                "name_only": each.id in names,
            }
            for each in found
        ]
    )


@command(name="tables")
@click.option(
    "--class", "of_class", type=click.Choice(["business", "device", "transient", "unclassified"]), help="Only these."
)
async def tables(session: Session, of_class: str | None) -> None:
    """Show every table: its class, where that came from, how it travels, and its rows.

    A table that Backroom does not know is inferred from its columns, or "unclassified": then it stays out of business
    backups. Classify it in tables.toml in the data folder:

    \b
      [[group]]
      class = "business"              (or device, transient)
      [group.tables]
      loyalty_points = { travels_with = ["businessId"] }
    """
    from agent.operations import look
    from agent.operations.workspace import Workspace

    seen = [each for each in await look.tables(Workspace(session.home)) if of_class in (None, each.rule.table_class)]
    session.output.table(
        ("Table", "Class", "From", "Travels", "Rows"),
        [
            (
                each.rule.table,
                each.rule.table_class.value,
                each.rule.origin.value + (f" ({each.rule.why})" if each.rule.why else ""),
                each.rule.describe(),
                "no right" if each.rows is None else f"{each.rows:,}",
            )
            for each in seen
        ],
        right=(4,),
    )
    session.output.result([each.as_dict() for each in seen])


@command(name="inspect")
@click.argument("file")
@identity_option
@passphrase_option
async def inspect(session: Session, file: str, identity: Path | None, passphrase_file: Path | None) -> int | None:
    """Show what is in a bundle, verify it, and say who made it.

    FILE is a path (of a sealed .age file too), a file name in the archive, a bundle's id, or what was delivered:
    smb://server/share/FILE, s3://bucket/FILE, PLACE:FILE. Exits with 1 where the bundle is damaged.
    """
    from agent.operations.bringing import named, readable
    from agent.operations.inspect import inspect_bundle
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with readable(workspace, file, asker(session, passphrase_file), identity=identity) as path:
        seen = await inspect_bundle(workspace, path)
    where = named(path, file)
    manifest, say = seen.manifest, session.output.say
    business = f" of {manifest.business.name} ({manifest.business.id})" if manifest.business else ""
    say(where)
    say(f"  Kind      {manifest.kind.value}{business}")
    say(f"  Made      {moment(manifest.created)} by {manifest.created_by}")
    say(f"  On        {manifest.source_device} ({manifest.source_node})")
    say(f"  Shop      {manifest.shop_name or 'none'}")
    say(f"  Holds     {count(manifest.total_rows, 'row')} of {count(manifest.table_count, 'table')}, {size(seen.size)}")
    say(f"  Bundle    {manifest.bundle_id}")
    say(f"  Database  PostgreSQL {manifest.server_version}, schema {manifest.schema_fingerprint[:12]}")
    say(f"  Seal      {seen.seal_text}")
    session.output.table(
        ("Table", "Section", "Rows", ""),
        [(e.table, e.section.value, f"{e.rows:,}", "stubs" if e.stub else "") for e in manifest.tables if e.rows],
        right=(2,),
    )
    for warning in manifest.warnings:
        say(f"Warning: {warning}")
    session.output.result(seen.as_dict())
    return None if seen.valid else FAILED
