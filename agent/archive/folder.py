"""The archive folder: ``full/``, ``business/`` and ``device/`` under ``home/archive``."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.archive import files
from agent.archive.errors import AmbiguousBundleError, BadNameError, NoSuchBundleError
from agent.archive.writer import Encoder, Writer, clean_partials
from agent.home import Home
from protocol.manifest import Kind
from protocol.names import folder_for

if TYPE_CHECKING:
    from agent.archive.history import History

FOLDERS = {kind.value: folder_for(kind) for kind in Kind}
_FOREIGN_PARTIAL_AGE = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One bundle file in the archive. ``kind`` follows from the folder; ``size`` in bytes; ``modified`` is UTC."""

    path: Path
    kind: str
    size: int
    modified: datetime


class Archive:
    """The bundles that this laptop keeps. All methods do their file work in threads.

    ``encoder`` gives what seals a new bundle on its way into the archive, None where it is kept as it is.
    """

    def __init__(self, home: Home, encoder: Callable[[], Encoder | None] = lambda: None) -> None:
        self.home = home
        self._encoder = encoder

    async def start(self) -> list[Path]:
        """Make the folders and remove partial files of processes that died. Returns what was removed."""

        def work() -> list[Path]:
            self.home.ensure().sweep()
            return [
                path
                for name in FOLDERS.values()
                for path in clean_partials(self.home, self.home.archive / name, _FOREIGN_PARTIAL_AGE)
            ]

        return await asyncio.to_thread(work)

    def folder(self, kind: str) -> Path:
        """The folder for bundles of ``kind`` (``full``, ``business-specific``, ``full-device``)."""
        try:
            return self.home.archive / FOLDERS[kind]
        except KeyError:
            raise BadNameError(f"There is no kind of bundle named {kind!r}.", f"Kinds: {', '.join(FOLDERS)}.") from None

    def writer(self, kind: str, *, expected: int | None = None) -> Writer:
        """A writer for a new bundle of ``kind``; ``expected`` bytes must be free (unknown: ``None``)."""
        self.home.ensure()
        return Writer(self.home, self.folder(kind), expected=expected, encoder=self._encoder())

    def outside(self, path: Path, *, expected: int | None = None, encoder: Encoder | None = None) -> Writer:
        """A writer with the same promises for a file of the user's choice (``--output``).

        Where ``path`` is a folder, :meth:`Writer.commit` needs a name; otherwise the file takes the name of ``path``,
        which must not exist. What an ``encoder`` seals is called ``.age`` in any case.
        """
        path = path.expanduser().absolute()
        if path.is_dir():
            return Writer(self.home, path, expected=expected, encoder=encoder)
        if encoder is not None and path.suffix != files.SEALED_SUFFIX:
            path = path.with_name(path.name + files.SEALED_SUFFIX)
        return Writer(self.home, path.parent, target=path, expected=expected, encoder=encoder)

    async def adopt(self, source: Path, kind: str, name: str) -> Path:
        """Move a complete, synced file (the spool's) into the archive; copied where it is on another disk or sealed."""
        folder = self.folder(kind)
        self.home.ensure()
        encoder = await asyncio.to_thread(self._encoder)
        try:
            if encoder is None:
                return await asyncio.to_thread(files.place, source, folder, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise files.failure(error, folder / name, 0) from error
        async with Writer(self.home, folder, encoder=encoder) as writer:
            with source.open("rb") as file:
                while data := await asyncio.to_thread(file.read, 1024 * 1024):
                    await writer.write(data)
            path = await writer.commit(name)
        await asyncio.to_thread(source.unlink)
        return path

    async def bundles(self, kind: str | None = None) -> tuple[StoredFile, ...]:
        """All bundle files (of ``kind``), newest name last within each folder."""
        kinds = list(FOLDERS) if kind is None else [kind]

        def work() -> tuple[StoredFile, ...]:
            return tuple(
                StoredFile(path, each, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
                for each in kinds
                for path in sorted(self.folder(each).glob("[!.]*"))
                if path.name.endswith(files.BUNDLE_SUFFIXES) and (stat := path.stat())
            )

        return await asyncio.to_thread(work)

    async def find(self, text: str, history: History | None = None) -> Path:
        """The file that the user means: a path, a file name in the archive (suffix optional), or a bundle ID.

        IDs, or the first letters of one, are looked up in ``history``.
        """
        if history is not None and (record := await history.find_backup(text)) is not None:
            path = self.locate(record.path)
            if await asyncio.to_thread(path.is_file):
                return path
        direct = Path(text)
        if await asyncio.to_thread(direct.is_file):
            return await asyncio.to_thread(direct.absolute)
        stored = [item.path for item in await self.bundles()]
        found = [path for path in stored if text in _names(path.name)]
        if len(found) > 1:
            names = ", ".join(str(path) for path in found)
            raise AmbiguousBundleError(f"{text!r} fits several files: {names}.", "Give the whole path.")
        if not found:
            raise NoSuchBundleError(
                f"There is no bundle {text!r}: no such file, no such name in the archive, no such ID in the history.",
                "See `backroom history`.",
            )
        return found[0]

    def stored_path(self, path: Path) -> str:
        """How a path is kept in the history: relative to the archive where inside (the data folder may move)."""
        path = path.absolute()
        return path.relative_to(self.home.archive).as_posix() if path.is_relative_to(self.home.archive) else str(path)

    def locate(self, stored: str) -> Path:
        """The path behind :meth:`stored_path`."""
        return self.home.archive / stored

    async def checksum(self, path: Path) -> str:
        """The SHA-256 of a file, in hexadecimal."""
        return await asyncio.to_thread(files.sha256, path)

    async def remove(self, path: Path) -> None:
        """Delete a bundle file; one that is gone already is fine."""

        def work() -> None:
            path.unlink(missing_ok=True)
            files.sync_folder(path.parent)

        await asyncio.to_thread(work)


def _names(name: str) -> tuple[str, ...]:
    """What a file of the archive may be called: its name, without the seal's suffix, without any."""
    return name, name.removesuffix(files.SEALED_SUFFIX), files.split_suffix(name)[0]
