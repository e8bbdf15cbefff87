"""What the tests use from the operating system, as data, and how it is installed where this may be done.

Standard library only, and it must parse on old Pythons: `bootstrap` imports it before the environment exists.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# postgresql-common reads this before it makes a cluster for a newly installed server.
CLUSTER_SETTINGS = Path("/etc/postgresql-common/createcluster.d/backroom.conf")
# Debian asks this program whether a newly installed service may be started.
POLICY = Path("/usr/sbin/policy-rc.d")


class SetupError(Exception):
    """The machine cannot be made ready. `str()` says what failed and why, `hint` what to do next."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """One thing that the tests use from the operating system.

    Attributes:
        name: Debian's name of the package.
        programs: any of these shows that it is there: names to find on the PATH, or patterns of absolute paths.
        reason: what it is for.
        without: what happens in a test run that lacks it.
    """

    name: str
    programs: tuple[str, ...]
    reason: str
    without: str

    def is_present(self) -> bool:
        """Whether one of its programs is on this machine."""
        return any(_find(program) for program in self.programs)


PACKAGES = (
    SystemPackage(
        name="postgresql",
        programs=("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "initdb"),
        reason="a PostgreSQL as laptops have it, beside the embedded one",
        without="the database tests run on the embedded PostgreSQL alone",
    ),
    SystemPackage(
        name="iproute2",
        programs=("ip",),
        reason="network namespaces: two laptops and the LAN between them on one machine",
        without="the tests in tests/lan that need a LAN are skipped",
    ),
    SystemPackage(
        name="gcc",
        programs=("gcc",),
        reason="the clock of the LAN's laptops, which can run ahead (tests/lan/clock.c)",
        without="the tests of laptops that sleep or whose cable is pulled in the middle of a transfer are skipped",
    ),
    SystemPackage(
        name="libc6-dev",
        programs=("/usr/include/stdlib.h",),
        reason="the C library's headers, for the same clock",
        without="the same tests are skipped",
    ),
    SystemPackage(
        name="samba",
        programs=("smbd",),
        reason="a network share to deliver backups to: its tests start a server of their own on the loopback address",
        without="the tests of deliveries to a network share are skipped",
    ),
    SystemPackage(
        name="chromium",
        programs=("/usr/bin/chromium", "chromium"),
        reason="a browser: the page is tested as people use it, wide and narrow, with an accessibility check",
        without="the tests in tests/browser are skipped",
    ),
    SystemPackage(
        name="dbus",
        programs=("dbus-daemon",),
        reason="a session bus of the tests' own, over which the desktop is told of requests",
        without="the test of a notification on the desktop is skipped",
    ),
    SystemPackage(
        name="libnotify-bin",
        programs=("notify-send",),
        reason="what shows a notification on Linux",
        without="the test of a notification on the desktop is skipped",
    ),
    SystemPackage(
        name="dunst",
        programs=("dunst",),
        reason="a notification daemon that says what it has shown",
        without="the test of a notification on the desktop is skipped",
    ),
    SystemPackage(
        name="xvfb",
        programs=("Xvfb",),
        reason="a display in memory for it",
        without="the test of a notification on the desktop is skipped",
    ),
)


def _find(program: str) -> bool:
    if program.startswith("/"):
        return any(Path("/").glob(program.lstrip("/")))
    return shutil.which(program) is not None or shutil.which(program, path="/usr/sbin:/sbin") is not None


def may_install() -> bool:
    """Whether this process may install system packages: Linux, root, apt."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(names: Sequence[str]) -> None:
    """Installs Debian packages without a question; refreshes apt's lists only where it must.

    Raises:
        SetupError: apt could not, also not with fresh lists.
    """
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *names]
    if _apt(command) == 0:
        return
    # Old lists name files that the mirror has replaced, and new machines have no lists at all.
    _apt(["apt-get", "update", "--quiet"])
    code = _apt(command)
    if code != 0:
        raise SetupError(
            f"apt-get could not install {' '.join(names)} (exit code {code}; its words are above).",
            f"Run it yourself to see why: {' '.join(command)}",
        )


def _apt(command: Sequence[str]) -> int:
    # Waiting for dpkg's lock beats failing where the machine runs its own updates.
    variables = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    options = ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    return subprocess.run(
        [*command, *options], env=variables, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr
    ).returncode


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Keeps Debian from starting what it installs (Samba would serve on all addresses): the tests start their own."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


@contextlib.contextmanager
def _no_cluster_of_its_own() -> Iterator[None]:
    """Keeps Debian's PostgreSQL from starting a server at installation: the tests start their own and stop them."""
    if CLUSTER_SETTINGS.exists():
        yield
        return
    CLUSTER_SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    CLUSTER_SETTINGS.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        yield
    finally:
        # Gone again afterwards: what a person installs later behaves as they expect.
        CLUSTER_SETTINGS.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            CLUSTER_SETTINGS.parent.rmdir()


def provide(packages: Sequence[SystemPackage]) -> tuple[SystemPackage, ...]:
    """Installs those of `packages` that are missing, where that may be done. Returns those that still are."""
    missing = tuple(package for package in packages if not package.is_present())
    if missing and may_install():
        # Where it fails, apt's own words are on the terminal and the tests skip.
        with contextlib.suppress(SetupError), _no_cluster_of_its_own(), _no_services_started():
            install([package.name for package in missing])
        missing = tuple(package for package in missing if not package.is_present())
    return missing
