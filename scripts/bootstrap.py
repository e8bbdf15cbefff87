"""Makes the repository's own environment (`.venv`) and enters it; needs nothing but Python and its standard library.

A script calls `enter()` first. On return it runs inside `.venv`, which holds what `requirements.lock` names and the
project itself (editable). The first time this needs the network; after that one stamp is read and nothing else is done.

How it stays right:
- The stamp is a digest of all that shaped the environment and is written last; any other content means that the
  environment has to be brought up to date.
- A mark stands while packages are being installed. Found at the start, it means that an installation was cut off,
  perhaps in the middle of a package, so the environment is made again from nothing.
- One process at a time installs: the others wait for a lock that the operating system takes back if its holder dies.

This file must at least parse on old Pythons, whose users deserve a sentence and not a traceback: hence no `__future__`
import here and in the scripts that import it.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the scripts are started by whatever Python there is
    sys.exit(
        "Backroom needs Python 3.11 or newer; this is Python %d.%d (%s).\n"  # noqa: UP031
        "Install a newer one (python.org, your system's packages) and start this script with it, as in: python3.12 %s"
        % (sys.version_info[0], sys.version_info[1], sys.executable, sys.argv[0])
    )

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import system
from system import SetupError

ROOT = Path(__file__).resolve().parent.parent
# Raise it when this file installs in another way, so that existing environments are brought up to date.
RECIPE = "1"
# Settings of the caller's shell that would make Python or pip look or install elsewhere.
MISLEADING = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_PYTHON", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True, slots=True)
class Environment:
    """The places of one checkout's environment.

    Attributes:
        root: the repository.
    """

    root: Path

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def lock(self) -> Path:
        """The pinned packages."""
        return self.root / "requirements.lock"

    @property
    def stamp(self) -> Path:
        """Holds the digest of what is installed; absent or different means not up to date."""
        return self.folder / "backroom.stamp"

    @property
    def unfinished(self) -> Path:
        """Stands while an installation runs; it lies outside the folder because making the folder empties it."""
        return self.root / ".venv.unfinished"

    @property
    def guard(self) -> Path:
        """The file whose lock lets one process at a time install."""
        return self.root / ".venv.lock"

    def digest(self) -> str:
        """What the stamp must hold: the digest of all that decides what belongs into the environment.

        The folder's own place is part of it: the scripts inside name it in full, so a moved repository needs a new one.
        """
        content = hashlib.sha256()
        for part in (
            RECIPE.encode(),
            os.fsencode(self.folder),
            self.lock.read_bytes(),
            (self.root / "pyproject.toml").read_bytes(),
        ):
            content.update(b"%d:" % len(part) + part)
        return content.hexdigest()

    def is_current(self) -> bool:
        """Whether the environment is complete and holds what the lock names."""
        try:
            recorded = self.stamp.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return False
        return recorded == self.digest() and self.python.exists() and not self.unfinished.exists()

    def is_usable(self) -> bool:
        """Whether packages can be installed into the environment as it is, instead of making it anew."""
        if self.unfinished.exists() or not self.python.exists():
            return False
        # The scripts of a folder that was moved here from elsewhere still name the old place.
        script = self.python.with_name("activate")
        if not script.exists() or str(self.folder) not in script.read_text(encoding="utf-8", errors="replace"):
            return False
        probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
        command = [str(self.python), "-I", "-c", probe]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0

    def is_running_here(self) -> bool:
        """Whether this very process runs inside the environment."""
        return Path(sys.prefix).resolve() == self.folder.resolve()


def clean_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables to start Python and pip with: all of `variables` but those that would lead them astray."""
    return {name: value for name, value in variables.items() if name not in MISLEADING}


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Holds the lock on `path` for the block, waiting (and saying so once) while another process has it."""
    with path.open("a+b") as file:
        told = False
        while not _try_lock(file):
            if not told:
                say("another process is setting up the environment: waiting for it")
                told = True
            time.sleep(0.2)
        # Closing the file gives the lock back, also where the process dies.
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def prepare(environment: Environment) -> bool:
    """Brings `environment` up to date. Returns whether there was anything to do.

    Raises:
        SetupError: it cannot be made, or a package cannot be installed.
    """
    if environment.is_current():
        return False
    with only_one(environment.guard):
        if environment.is_current():  # the process that we waited for did it
            return True
        started = time.monotonic()
        usable = environment.is_usable()
        environment.unfinished.touch()
        if usable:
            say("bringing .venv up to date with requirements.lock")
            environment.stamp.unlink(missing_ok=True)
        else:
            say("making .venv and installing requirements.lock (about a minute, and only this time)")
            _make(environment)
        _pip(environment, "install", "--requirement", str(environment.lock))
        # The lock holds the build tool as well, so this needs neither network nor an isolated build.
        _pip(environment, "install", "--no-deps", "--no-build-isolation", "--editable", str(environment.root))
        partial = environment.stamp.with_suffix(".partial")
        partial.write_text(environment.digest(), encoding="ascii")
        partial.replace(environment.stamp)
        environment.unfinished.unlink()
        say(f".venv is ready ({time.monotonic() - started:.0f} s)")
    return True


def _make(environment: Environment) -> None:
    """Makes an empty virtual environment, over whatever is there."""
    if environment.is_running_here() and os.name == "nt":
        raise SetupError(
            f"{environment.folder} is incomplete, and it cannot be made anew by the Python that runs from it.",
            "Start the script with another Python, as in: py -3 scripts\\test.py",
        )
    base = getattr(sys, "_base_executable", None) or sys.executable
    if environment.folder.is_symlink() or environment.folder.is_file():
        environment.folder.unlink()
    elif environment.folder.exists():
        shutil.rmtree(environment.folder)
    command = [base, "-m", "venv", str(environment.folder)]
    if importlib.util.find_spec("ensurepip") is None:
        command = _without_ensurepip(environment, base)
    done = subprocess.run(command, env=clean_variables(os.environ), check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SetupError(
            f"The virtual environment {environment.folder} could not be made (exit code {done.returncode}).",
            "Check that the folder can be written and the disk has room, then start the script again.",
        )


def _without_ensurepip(environment: Environment, base: str) -> list[str]:
    """The command that makes the environment with a Python that came without `ensurepip`, as Debian's does."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if shutil.which("virtualenv"):
        return ["virtualenv", "--python", base, str(environment.folder)]
    if system.may_install():
        say(f"this Python cannot make virtual environments by itself: installing {package}")
        system.install([package])
        importlib.invalidate_caches()
        if importlib.util.find_spec("ensurepip") is not None:
            return [base, "-m", "venv", str(environment.folder)]
    raise SetupError(
        f"This Python ({base}) cannot make a virtual environment: its module ensurepip is missing.",
        f"On Debian and Ubuntu: sudo apt-get install {package}. Elsewhere: install virtualenv, or another Python.",
    )


def _pip(environment: Environment, *arguments: str) -> None:
    # Twice quiet: pip shows errors alone. No input: it never waits for an answer that nobody gives.
    command = [str(environment.python), "-m", "pip", "-qq", "--no-input", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=clean_variables(os.environ), check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SetupError(
            f"pip could not finish `pip {' '.join(arguments)}` (exit code {done.returncode}; its words are above).",
            "The first run needs a package index: check the network and `pip config list`, then start again.",
        )


def enter(environment: Environment | None = None) -> None:
    """Returns inside the environment: prepares it, and starts the calling script over with its Python where needed."""
    environment = environment or Environment(ROOT)
    try:
        changed = prepare(environment)
    except system.SetupError as error:
        sys.exit(f"{error}\n{error.hint}")
    except OSError as error:
        sys.exit(f"The environment cannot be set up: {error}.\nCheck that {environment.root} can be written.")
    except KeyboardInterrupt:
        say("stopped; the next run starts over")
        sys.exit(130)
    # After a change also from inside: what this process has loaded may be gone or different now.
    if changed or not environment.is_running_here():
        become([str(environment.python), str(Path(sys.argv[0]).resolve()), *sys.argv[1:]])


def become(command: Sequence[str]) -> NoReturn:
    """Runs `command` in place of this process and ends with its exit code."""
    variables = clean_variables(os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execve(command[0], list(command), variables)
    # On Windows `exec` starts a second process and lets the shell believe that the work is over.
    try:
        sys.exit(subprocess.run(list(command), env=variables, check=False).returncode)
    except KeyboardInterrupt:
        sys.exit(130)


def say(text: str) -> None:
    """Tells the person what is going on, on standard error: standard output belongs to the script's own result."""
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)
