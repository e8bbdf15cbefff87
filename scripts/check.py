"""Runs the checks that are not tests: `python3 scripts/check.py [name ...]`, without names all of them.

CI and pre-commit both call this, so that what a check is stands in one place. Ends with 1 if one failed, and names it.
"""

import subprocess
import sys
from pathlib import Path

import bootstrap

# What each check runs: a program of the environment and its arguments, from the repository.
CHECKS = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy", "agent", "protocol", "certs", "scripts"),
    "imports": ("lint-imports",),
}


def main() -> None:
    """Runs the checks named on the command line, one after the other."""
    bootstrap.enter()
    wanted = sys.argv[1:] or list(CHECKS)
    unknown = [name for name in wanted if name not in CHECKS]
    if unknown:
        print(f"no such check: {', '.join(unknown)} (there are: {', '.join(CHECKS)})", file=sys.stderr)
        sys.exit(2)
    failed = []
    for name in wanted:
        print(f"== {name}: {' '.join(CHECKS[name])}", flush=True)
        program, *arguments = CHECKS[name]
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        if subprocess.run(command, cwd=bootstrap.ROOT, check=False, stdin=subprocess.DEVNULL).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
