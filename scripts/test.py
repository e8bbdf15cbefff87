"""Runs all tests: `python3 scripts/test.py [arguments of pytest]`.

Needs Python 3.11+ and nothing else: sets up `.venv` first, then installs the system packages that some tests use where
that may be done (root on a system with apt), and says what will be skipped where it may not. Paths among the arguments
are relative to the repository.
"""

import os
import sys

import bootstrap
import system

# Tests of one group (`xdist_group`) run in one worker, so those that own the machine's network never meet. Many tests
# wait for a network, a clock or a process, so there are two workers for each core.
WORKERS = min(8, 2 * (os.cpu_count() or 1))
PYTEST = ("-m", "pytest", "-n", str(WORKERS), "--dist", "loadgroup", "--durations", "15")


def main() -> None:
    """Prepares, tells what will be missing, and becomes pytest."""
    bootstrap.enter()
    for package in system.provide(system.PACKAGES):
        print(f"note: {package.name} is not installed ({package.reason}): {package.without}")
        if sys.platform == "linux":
            print(f"      on Debian and Ubuntu: sudo apt-get install {package.name}")
    os.chdir(bootstrap.ROOT)
    # The tests start hundreds of commands, which would each compile Backroom anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    bootstrap.become([sys.executable, *PYTEST, *sys.argv[1:]])


if __name__ == "__main__":
    main()
