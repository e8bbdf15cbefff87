"""The spool: bundles on their way in, one file each, that go on where they stopped. Nothing in it grows without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.archive.errors import BadNameError, SpoolError
from agent.archive.incoming import MEMORY, Incoming
from agent.home import Home
from agent.locks import try_lock

PART = ".part"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True)
class Part:
    """One unfinished bundle in the spool. ``size``: bytes received so far; ``touched``: last written, UTC."""

    bundle_id: str
    size: int
    touched: datetime


class Spool:
    """The folder of unfinished bundles. Parts untouched for ``keep`` and the oldest beyond ``most`` are thrown away."""

    def __init__(self, home: Home, *, keep: timedelta = timedelta(days=3), most: int = 32) -> None:
        self.home = home
        self.keep = keep
        self.most = most

    def open(self, bundle_id: str, size: int) -> Incoming:
        """The bundle's file, to be entered by ``async with``: new, or as far as it came. ``size``: its bytes in all.

        Entering raises :class:`SpoolBusyError` while another receiver has it and ``DiskFullError`` where the rest of it
        would not fit.
        """
        if size < 0:
            raise SpoolError(f"Bundle {bundle_id} cannot have {size} bytes.")
        return Incoming(self._path(bundle_id), bundle_id, size)

    async def offset(self, bundle_id: str) -> int:
        """How many bytes of the bundle are there (0: none)."""
        path = self._path(bundle_id)

        def work() -> int:
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return 0

        return await asyncio.to_thread(work)

    async def rename(self, bundle_id: str, to: str) -> bool:
        """Let what came be that of another transfer; whether there was something, and nobody held it."""

        def work() -> bool:
            path, other = self._path(bundle_id), self._path(to)
            try:
                fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                return False
            try:
                free = try_lock(fd)
                if free and os.name != "nt":
                    path.replace(other)
            finally:
                os.close(fd)
            if free and os.name == "nt":  # an open file cannot be renamed there
                path.replace(other)
            if free and path.with_suffix(MEMORY).exists():
                path.with_suffix(MEMORY).replace(other.with_suffix(MEMORY))
            return free

        return await asyncio.to_thread(work)

    async def parts(self) -> tuple[Part, ...]:
        """All parts, longest untouched first."""
        return await asyncio.to_thread(self._list)

    async def clean(self) -> list[str]:
        """Throw away parts that nobody holds and that are too old or too many. Returns their bundle IDs."""

        def work() -> list[str]:
            self.home.ensure()
            parts = self._list()
            old = time.time() - self.keep.total_seconds()
            surplus = len(parts) - self.most
            chosen = [part for place, part in enumerate(parts) if place < surplus or part.touched.timestamp() < old]
            return [part.bundle_id for part in chosen if self._remove(self._path(part.bundle_id))]

        return await asyncio.to_thread(work)

    def _path(self, bundle_id: str) -> Path:
        if not _ID.fullmatch(bundle_id):
            raise BadNameError(f"{bundle_id!r} is not a bundle ID.", "The sender is at fault.")
        self.home.ensure()
        return self.home.spool / f"{bundle_id}{PART}"

    def _list(self) -> tuple[Part, ...]:
        parts = []
        for path in self.home.spool.glob(f"*{PART}"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                parts.append(Part(path.name[: -len(PART)], stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)))
        return tuple(sorted(parts, key=lambda part: part.touched))

    @staticmethod
    def _remove(path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return False
        try:
            if not try_lock(fd):
                return False
            path.with_suffix(MEMORY).unlink(missing_ok=True)
            if os.name != "nt":
                path.unlink(missing_ok=True)
        finally:
            os.close(fd)
        if os.name == "nt":
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        return True
