"""The user that a PostgreSQL server runs as. PostgreSQL refuses root, so where we are root another one is taken."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.demo.errors import NoServerUser

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class ServerUser:
    """A user of the machine, by number."""

    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """The user to run the server as, or None for our own. Raises ``NoServerUser`` where root has no other."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(entry.pw_uid, entry.pw_gid)
    raise NoServerUser(f"PostgreSQL does not run as root, and none of the users {', '.join(_CANDIDATES)} exists.")


def own(path: Path, user: ServerUser) -> None:
    """Give ``path`` itself, not what is in it, to ``user``."""
    if sys.platform != "win32":
        os.chown(path, user.uid, user.gid)


def open_way_to(path: Path) -> None:
    """Let other users pass through (not list) the parent folders of ``path``, so that the server's user reaches it."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)
