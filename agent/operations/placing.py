"""Where the frames of bundles in the archive lie (:mod:`protocol.places`), kept from when they were made or came: who
builds on one of them need not read all of it first.

Files in ``state/places``. Where one is not to be had, or is damaged, the bundle is read.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path

from agent.home import Home
from agent.log import get_logger
from certs import files
from protocol.places import Packed

log = get_logger(__name__)

MOST = 32
"""Of how many bundles they are kept: those that pushes build on are the last of each business and device."""
_DIGEST_SIZE = hashlib.sha256().digest_size


async def keep_places(home: Home, bundle_id: str, places: Packed | None) -> None:
    """Keep them for the next who builds on that bundle, in place of the oldest that are kept."""
    if places is None:
        return
    try:
        await asyncio.to_thread(_write, _path(home, bundle_id), places)
    except OSError as error:
        # Whoever builds on the bundle reads it.
        log.info("the places of frames were not kept", bundle=bundle_id, reason=str(error))


def kept_places(home: Home, bundle_id: str) -> Packed | None:
    """Those of that bundle, if they are kept. Blocking."""
    try:
        kept = _path(home, bundle_id).read_bytes()
    except OSError:
        return None
    places = kept[_DIGEST_SIZE:]
    return places if hashlib.sha256(places).digest() == kept[:_DIGEST_SIZE] else None


def _path(home: Home, bundle_id: str) -> Path:
    return home.state / "places" / hashlib.sha256(bundle_id.encode()).hexdigest()[:32]


def _write(path: Path, places: Packed) -> None:
    files.make_private_folder(path.parent)
    files.replace_private(path, hashlib.sha256(places).digest() + places)
    times = {}
    for each in path.parent.iterdir():
        with suppress(FileNotFoundError):
            times[each] = each.stat().st_mtime_ns
    for each in sorted(times, key=lambda kept: times[kept])[:-MOST]:
        each.unlink(missing_ok=True)
