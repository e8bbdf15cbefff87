"""The bundle that somebody names, wherever it lies: here, in a folder, or at a place that backups were delivered to."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engine.progress import BYTES, Progress, Step, silent
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.delivery.base import Kept
    from agent.operations.keys import Ask

_LEFT_SECONDS = 86400.0
_SHOWN = 20


class WhichBackup(OperationError):
    """A place was named, and not which of its backups."""

    code = "which-backup"


async def files_at(workspace: Workspace, text: str) -> tuple[str, tuple[Kept, ...]]:
    """The backups that lie at a place, by name or address. Raises ``DeliveryError``."""
    from agent.delivery.places import find_place, open_place

    place = open_place(find_place(text, workspace.config.delivery))
    return place.where, await place.there()


@asynccontextmanager
async def brought(workspace: Workspace, text: str, *, progress: Progress = silent) -> AsyncIterator[Path]:
    """The file of the bundle that the user means, as long as the block lasts.

    A path, a name in the archive or an ID is read where it is. What lies at a place (``smb://server/share/FILE``,
    ``s3://bucket/FILE``, ``path:/mnt/nas/FILE``, ``PLACE:FILE``) is copied here first and removed afterwards, so that
    it is verified and applied as one thing. Raises :class:`WhichBackup`, ``ArchiveError`` and ``DeliveryError``.
    """
    from agent.delivery.places import split_address

    if (folder := await asyncio.to_thread(_folder, text)) is not None:
        raise _which(text, f"{text.rstrip('/')}/", folder)
    here = await asyncio.to_thread(os.path.exists, text)
    address = None if here else split_address(text, workspace.config.delivery)
    if address is None:
        from agent.operations.look import find_bundle

        yield await find_bundle(workspace, text)
        return
    place, name = address
    where, there = await files_at(workspace, place)
    kept = next((each for each in there if each.name == name), None)
    if kept is None:
        between = "" if place.endswith(("/", ":")) else "/" if ":" in place else ":"
        raise _which(where, place + between, there, missing=name)
    spool = workspace.home.ensure().spool / f"brought-{secrets.token_hex(6)}"
    await asyncio.to_thread(spool.mkdir, 0o700)
    try:
        await _fetch(workspace, place, kept, spool / Path(kept.name).name, progress)
        yield spool / Path(kept.name).name
    finally:
        await asyncio.to_thread(shutil.rmtree, spool, ignore_errors=True)


def _folder(text: str) -> list[Kept] | None:
    """The backups in a folder; None where it is none."""
    from agent.delivery.base import Kept, is_backup

    folder = Path(text)
    if not folder.is_dir():
        return None
    return [Kept(path.name, path.stat().st_size) for path in folder.iterdir() if is_backup(path.name)]


async def _fetch(workspace: Workspace, place: str, kept: Kept, target: Path, progress: Progress) -> None:
    from agent.archive.files import check_space
    from agent.delivery.places import find_place, open_place

    await asyncio.to_thread(check_space, target.parent, kept.size)
    loop = asyncio.get_running_loop()

    def told(done: int, total: int) -> None:
        loop.call_soon_threadsafe(progress, Step("fetching", done, total, kept.name, BYTES))

    await open_place(find_place(place, workspace.config.delivery)).fetch(kept.name, target, told)


def written(name: str) -> str:
    """The time in the name of a backup: later ones sort behind."""
    return name.split(".")[0][-15:]


def _which(where: str, before: str, there: Iterable[Kept], missing: str | None = None) -> WhichBackup:
    names = sorted((each.name for each in there), key=written, reverse=True)
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    what = f"{where} has no backup {missing}" if missing else f"{where} is a place, not a backup"
    holds = f"it has {listed}" if names else "there is no backup in it"
    return WhichBackup(f"{what}; {holds}.", f"Say which: {before}{names[0]}" if names else "Give another place.")


@asynccontextmanager
async def readable(
    workspace: Workspace, text: str, ask: Ask, *, identity: Path | None = None, progress: Progress = silent
) -> AsyncIterator[Path]:
    """:func:`brought`, unlocked where it is sealed (see ``keys.unlock``)."""
    from agent.operations.keys import unlock

    async with brought(workspace, text, progress=progress) as path:
        await unlock(workspace, path, ask, identity=identity)
        yield path


def is_copy(path: Path) -> bool:
    """Whether the file is a copy of what lies elsewhere, and will be gone."""
    return path.parent.name.startswith("brought-")


def named(path: Path, text: str) -> str:
    """What people are told that was read: the file, or for a copy of what lies elsewhere what they said."""
    return text if is_copy(path) else str(path)


def clear_brought(workspace: Workspace) -> None:
    """Remove copies that a process left when it was killed more than a day ago. Blocking."""
    for pattern in ("brought-*", "opened-*", "probe-*"):
        for path in workspace.home.spool.glob(pattern):
            if path.stat().st_mtime < time.time() - _LEFT_SECONDS:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
