"""Shows Backroom at work, with two laptops on this machine: `python3 scripts/demo.py [arguments of backroom demo]`.

Needs Python 3.11+ and nothing else: sets up `.venv` first. Paths among the arguments are relative to where you are.
"""

import sys

import bootstrap


def main() -> None:
    """Prepares and becomes `backroom demo`."""
    bootstrap.enter()
    # -P: a folder named `agent` where the person happens to be is not ours.
    bootstrap.become([sys.executable, "-P", "-m", "agent.cli.main", "demo", *sys.argv[1:]])


if __name__ == "__main__":
    main()
