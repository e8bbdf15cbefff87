"""``backroom history``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agent.cli.output import Output, moment, size
from agent.cli.run import Session, command

if TYPE_CHECKING:
    from agent.archive.records import BackupRecord, DrillRecord, RestoreRecord, RunRecord, TransferRecord

KINDS = {"full": "full", "business": "business-specific", "full-device": "full-device", "undo": "undo"}
FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@command(name="history")
@click.option("--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many of each.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only bundles of this kind.")
@click.option("--business", "-b", metavar="B", help="Only this business, by its id or name.")
@click.option("--device", metavar="DEVICE", help="Only from or with this laptop, by its name or ID.")
@click.option("--since", type=click.DateTime(FORMATS), help="Only from then on (2026-01-31, in this laptop's zone).")
@click.option("--until", type=click.DateTime(FORMATS), help="Only before then.")
@click.option("--removed", is_flag=True, help="The backups that were removed, in the trash or gone.")
async def history(
    session: Session,
    limit: int,
    kind: str | None,
    business: str | None,
    device: str | None,
    since: datetime | None,
    until: datetime | None,
    removed: bool,
) -> None:
    """Show backups, pushes, pulls, restores, drills and the schedule's runs, newest first."""
    from agent.operations.workspace import Workspace

    wanted: dict[str, Any] = {
        "business": business,
        "since": since.astimezone() if since else None,
        "until": until.astimezone() if until else None,
        "limit": limit,
    }
    bundles = KINDS[kind] if kind else None
    async with Workspace(session.home).history() as records:
        backups = await records.backups(**wanted, kind=bundles, device=device, removed=removed)
        transfers = await records.transfers(**wanted, peer=device)
        restores = await records.restores(**wanted, kind=bundles)
        drills = await records.drills(since=wanted["since"], limit=limit)
        runs = await records.runs(since=wanted["since"], limit=limit)
    output = session.output
    _show_backups(output, backups)
    filtered = any((kind, business, device, until, removed))
    if not removed:
        _show_transfers(output, transfers)
        _show_restores(output, restores)
    if not filtered:
        _show_drills(output, drills)
        _show_runs(output, runs)
    result = {"backups": backups, "transfers": transfers, "restores": restores, "drills": drills, "runs": runs}
    output.result({name: [_public(record) for record in found] for name, found in result.items()})


def _public(record: Any) -> dict[str, object]:
    return {name: value for name, value in asdict(record).items() if name not in {"receipt", "owner"}}


def _show_backups(output: Output, backups: tuple[BackupRecord, ...]) -> None:
    output.say(f"Backups ({len(backups)})")
    output.table(
        ("When", "Kind", "Business", "From", "Rows", "Size", "State", "File"),
        [
            (
                moment(b.created_at),
                b.kind,
                b.business_name or "",
                b.source_device,
                f"{b.records:,}",
                size(b.size),
                _state(b),
                b.filename,
            )
            for b in backups
        ],
        right=(4, 5),
    )
    for b in backups:
        if b.notes:
            output.note(f"  {b.filename}: {b.notes}")


def _state(backup: BackupRecord) -> str:
    words = [
        "pinned" if backup.pinned else "",
        f"removed: {backup.removed_why}" if backup.removed_at else "",
        "DAMAGED" if backup.damaged_at else "verified" if backup.verified_at else "",
    ]
    return ", ".join(filter(None, words))


def _show_transfers(output: Output, transfers: tuple[TransferRecord, ...]) -> None:
    output.say(f"\nPushes and pulls ({len(transfers)})")
    output.table(
        ("When", "What", "Business", "Laptop", "State", "Bytes"),
        [
            (
                moment(t.started_at),
                f"{t.mode} {'to' if (t.direction == 'sent') else 'from'}",
                t.business_name or t.kind,
                t.peer_name,
                t.state + (f": {t.error}" if t.error else ""),
                size(t.bytes_done),
            )
            for t in transfers
        ],
    )


def _show_restores(output: Output, restores: tuple[RestoreRecord, ...]) -> None:
    output.say(f"\nRestores ({len(restores)})")
    output.table(
        ("When", "From", "Business", "Mode", "State", "Rows"),
        [
            (
                moment(r.started_at),
                r.source_device or "",
                r.business_name or r.kind,
                r.mode,
                r.state + (f": {r.error}" if r.error else ""),
                ", ".join(
                    f"{number:,} {what}" for what, number in r.counts.items() if number and isinstance(number, int)
                ),
            )
            for r in restores
        ],
    )


def _show_drills(output: Output, drills: tuple[DrillRecord, ...]) -> None:
    output.say(f"\nDrills ({len(drills)})")
    output.table(
        ("When", "What", "From", "State", "Rows"),
        [
            (
                moment(d.started_at),
                d.business_name or d.kind,
                d.source_device or "",
                d.state + (f": {d.error}" if d.error else ""),
                f"{d.rows:,}",
            )
            for d in drills
        ],
        right=(4,),
    )


def _show_runs(output: Output, runs: tuple[RunRecord, ...]) -> None:
    output.say(f"\nBy schedule ({len(runs)})")
    output.table(
        ("When", "Entry", "State", ""),
        [(moment(r.started_at), r.entry, r.state, r.error or r.detail or "") for r in runs],
    )
