"""The trash: where bundles that retention removed wait for some days, each under its bundle ID."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.archive import files
from agent.archive.errors import NoSuchBundleError, WriteError
from agent.archive.folder import Archive

FOLDER = "trash"


def trash_path(archive: Archive, bundle_id: str, filename: str) -> Path:
    """Where the bundle lies once it is in the trash. Raises ``BadNameError`` where its ID can be no file name."""
    name = bundle_id + files.split_suffix(filename)[1]
    files.check_name(name)
    return archive.home.archive / FOLDER / name


async def throw_away(archive: Archive, path: Path, target: Path) -> None:
    """Move a bundle into the trash, in one step."""

    def work() -> None:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        path.replace(target)
        files.sync_folder(target.parent)
        files.sync_folder(path.parent)

    try:
        await asyncio.to_thread(work)
    except OSError as error:
        raise files.failure(error, target, 0, kept=f"{path.name} is where it was") from error


async def take_back(archive: Archive, path: Path, kind: str, filename: str) -> Path:
    """Move a bundle out of the trash into the folder of its kind; returns its path there."""
    folder = archive.folder(kind)

    def work() -> Path:
        if not path.is_file():
            raise NoSuchBundleError(f"{path.name} is no longer in the trash.", "Its days there were over.")
        return files.place(path, folder, filename)

    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise WriteError(
            f"{path.name} could not be moved to {folder}: {error.strerror}.", "Check the rights."
        ) from error
