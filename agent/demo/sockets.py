"""Where a server's Unix socket lies. Its path may hold only about a hundred bytes, however long the data folder's."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.demo.accounts import ServerUser, own
from agent.demo.errors import ClusterFailed

_LONGEST = 100
_PLAIN = re.compile(r"[\w/ .+@-]+")


def socket_folder(folder: Path, user: ServerUser | None) -> Path:
    """A folder of mode 0700 for the socket of the server in ``folder``; the same one each time.

    It is ``folder/run`` where that is short and plain enough, else one in the machine's temporary folder. Raises
    ``ClusterFailed`` where somebody else holds that name.
    """
    chosen = folder / "run"
    socket_path = str(chosen / ".s.PGSQL.5432")
    if len(socket_path.encode()) > _LONGEST or not _PLAIN.fullmatch(socket_path):
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        chosen = Path(tempfile.gettempdir()) / f"backroom-{digest}"
    chosen.mkdir(mode=0o700, exist_ok=True)
    if sys.platform != "win32":
        allowed = {os.geteuid()} | ({user.uid} if user else set())
        if chosen.is_symlink() or chosen.stat().st_uid not in allowed:
            raise ClusterFailed(f"The folder {chosen} for the server's socket belongs to somebody else.")
    if user is not None:
        own(chosen, user)
    return chosen


def remove_socket_folder(folder: Path) -> None:
    """Remove what ``socket_folder`` made, if the server is down and has taken its socket away."""
    with suppress(OSError):
        folder.rmdir()
