"""Finding the platform's database: the ``DATABASE_URL`` of its ``.env``, where that file is named or lies about."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from agent.operations.errors import OperationError

NAMES = (".env", ".env.local", ".env.production")
_LINE = re.compile(r"""^\s*(?:export\s+)?DATABASE_URL\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s#]*))""", re.MULTILINE)
_MOST_BYTES = 256 * 1024
_MOST_FOLDERS = 2000
_DEEP = 2
_SKIPPED = {"node_modules", "venv", "AppData", "Library"}


class NoAddress(OperationError):
    code = "no-database-url"
    hint = "Name the platform's folder or its .env file; or give the address itself, as in DATABASE_URL."


@dataclass(frozen=True, slots=True)
class Found:
    """An address and the file that it stands in."""

    file: Path
    url: str = field(repr=False)


def where(url: str) -> tuple[str, str]:
    """Database and server of an address, for showing: neither its user nor its password. Empty where it names none."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?", "?"
    return parts.path.lstrip("/"), f"{parts.hostname or ''}{port}"


def address_in(place: Path) -> Found:
    """The address in a platform's ``.env``; ``place`` is that file or its folder. Blocking.

    Raises :class:`NoAddress`.
    """
    files = [place / name for name in NAMES] if place.is_dir() else [place]
    for file in files:
        try:
            with file.open("rb") as source:
                text = source.read(_MOST_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NoAddress(f"{file} cannot be read: {error.strerror}.") from None
        for match in _LINE.finditer(text):
            url = next((part for part in match.groups() if part), "")
            if url.startswith(("postgresql://", "postgres://")):
                return Found(file, url)
    raise NoAddress(f"There is no DATABASE_URL for PostgreSQL in {place}.")


def lying_about(start: Iterable[Path]) -> tuple[Found, ...]:
    """Addresses in the ``.env`` files of these folders and those below them (two deep). Blocking; never raises."""
    found: dict[str, Found] = {}
    for folder in _folders(start):
        try:
            each = address_in(folder)
        except NoAddress:
            continue
        found.setdefault(each.url, each)
    return tuple(found.values())


def _folders(start: Iterable[Path]) -> Iterator[Path]:
    """Breadth first, so that what is near is found where there is a lot."""
    row = list(start)
    seen = 0
    for _ in range(_DEEP + 1):
        following: list[Path] = []
        for folder in row:
            seen += 1
            if seen > _MOST_FOLDERS:
                return
            yield folder
            try:
                with os.scandir(folder) as entries:
                    following += [
                        Path(each.path)
                        for each in entries
                        if each.is_dir(follow_symlinks=False)
                        and not each.name.startswith(".")
                        and each.name not in _SKIPPED
                    ]
            except OSError:
                continue
        row = sorted(following)
