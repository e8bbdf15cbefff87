"""The data folder of one agent: where everything is kept, who may write, and which processes are alive."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.locks import FileLock

ENVIRONMENT = "BACKROOM_HOME"


class HomeError(Exception):
    """Something is wrong with the data folder. ``hint`` says what to do next."""

    code = "home"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class HomeUnusableError(HomeError):
    """The data folder cannot be made or written."""

    code = "home-unusable"


class HomeBusyError(HomeError):
    """Another process holds the lock that was asked for."""

    code = "home-busy"


class Home:
    """The data folder at ``path`` (its properties are the layout). Making the object touches nothing on disk."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links
        self._token: str | None = None
        self._guard = threading.Lock()

    @classmethod
    def locate(cls, option: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Home:
        """The data folder to use: the ``--home`` option, else ``BACKROOM_HOME``, else the user's data folder."""
        chosen = option or environ.get(ENVIRONMENT)
        if not chosen:
            import platformdirs

            chosen = platformdirs.user_data_dir("backroom", appauthor=False)
        return cls(chosen)

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    @property
    def config(self) -> Path:
        """``config.toml``: database address, device name, port, manual addresses (mode 0600: it holds a password)."""
        return self.path / "config.toml"

    @property
    def identity(self) -> Path:
        """``identity/``: the device's key."""
        return self.path / "identity"

    @property
    def shop(self) -> Path:
        """``shop/``: the shop's authority, this device's certificate, the roster."""
        return self.path / "shop"

    @property
    def tables(self) -> Path:
        """``tables.toml``: the user's own classification of tables."""
        return self.path / "tables.toml"

    @property
    def archive(self) -> Path:
        """``archive/``: the bundles (``full/``, ``business/``, ``device/``) and their history."""
        return self.path / "archive"

    @property
    def history(self) -> Path:
        """``archive/history.sqlite``: the history database, where no other is configured."""
        return self.archive / "history.sqlite"

    @property
    def spool(self) -> Path:
        """``spool/``: bundles on their way in."""
        return self.path / "spool"

    @property
    def state(self) -> Path:
        """``state/``: what the agent remembers between runs (last-good addresses, port) and its lock files."""
        return self.path / "state"

    @property
    def logs(self) -> Path:
        """``logs/``: log files in JSON lines."""
        return self.path / "logs"

    @property
    def processes(self) -> Path:
        """``state/processes/``: one locked file per living process that works on this folder."""
        return self.state / "processes"

    def ensure(self) -> Home:
        """Make all folders that are missing, for this user alone (mode 0700). Returns itself.

        ``identity/`` and ``shop/`` are made by ``certs.store``, whole: that they exist means something.
        """
        folders = [self.path, self.archive, self.spool, self.state, self.logs, self.processes]
        folders += [self.archive / name for name in ("full", "business", "device", "undo")]
        for folder in folders:
            try:
                folder.mkdir(mode=0o700, parents=folder == self.path, exist_ok=True)
            except OSError as error:
                raise HomeUnusableError(
                    f"The data folder {self.path} cannot be used: {folder} could not be made ({error.strerror}).",
                    "Choose another folder with --home DIR, or give this user the right to write there.",
                ) from error
        return self

    def lock(self, name: str = "agent") -> FileLock:
        """Take the single-writer lock ``name`` of this folder, or raise :class:`HomeBusyError`.

        The lock is freed by ``release()``, at the end of a ``with`` block, or by the system when the process dies.
        """
        self.ensure()
        lock = FileLock(self.state / f"{name}.lock")
        if not lock.try_acquire():
            pid = lock.holder()
            who = f"process {pid}" if pid else "another process"
            raise HomeBusyError(
                f"Another Backroom holds the {name} lock of {self.path} ({who}).",
                "Wait for it to end or stop it, or use another data folder with --home DIR.",
            )
        return lock

    def locked(self, name: str = "agent") -> bool:
        """Whether some process holds the lock ``name`` now (for example: is the agent running)."""
        path = self.state / f"{name}.lock"
        if not path.exists():
            return False
        probe = FileLock(path)
        if probe.try_acquire():
            probe.release()
            return False
        return True

    @property
    def process(self) -> str:
        """This process's token (``<home>-<random>``): names the owner of unfinished work, see :meth:`alive`.

        The first use makes a locked file under ``state/processes``; the system frees the lock when the process dies, so
        that a reused process number can never be taken for the owner.
        """
        with self._guard:
            if self._token is None:
                self.ensure()
                while True:
                    token = f"{self.tag}-{secrets.token_hex(6)}"
                    lock = FileLock(self.processes / token)
                    if lock.try_acquire():
                        break
                atexit.register(lock.release, remove=True)
                self._token = token
            return self._token

    def alive(self, token: str) -> bool:
        """Whether the process with this token lives. A token of another data folder counts as alive: we cannot know."""
        if token == self._token or not token.startswith(f"{self.tag}-"):
            return True
        path = self.processes / token
        if not path.exists():
            return False
        probe = FileLock(path)
        if probe.try_acquire():
            probe.release(remove=True)
            return False
        return True

    def sweep(self) -> None:
        """Remove the lock files that dead processes left (they say nothing more than no file does)."""
        for path in self.processes.glob("*"):
            self.alive(path.name)

    @property
    def tag(self) -> str:
        """Eight letters that name this data folder, made once and kept in ``state/home``."""
        path = self.state / "home"
        try:
            return path.read_text(encoding="ascii")
        except FileNotFoundError:
            self.ensure()
        fresh = path.with_name(f".home-{secrets.token_hex(4)}")
        fresh.write_text(secrets.token_hex(4), encoding="ascii")
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # another process was first
        except OSError:
            fresh.replace(path)  # a file system without hard links
        finally:
            fresh.unlink(missing_ok=True)
        return path.read_text(encoding="ascii")
