"""Measures Backroom against PostgreSQL's own tools: ``python scripts/bench.py [--rows N] [--rounds N] [--json]``.

Makes a demo shop of about that many rows (2 million; ``--try`` takes 50,000 and one round) on the newest installed
PostgreSQL, else on the embedded one, in a temporary folder; runs every comparison in alternation, several rounds, and
prints the median of each with its ratio to the first of its group. Commands run as processes, so that their start
counts, as with the tools (with compiled modules, as an installation has them); both ends are on this machine.
``busy`` is the time of processors, the server's and the agents' with it: on a machine that does other things its
ratios are steadier. ``memory`` is the highest of our process, ``receiver`` of the agent that takes a push (the tools'
own is small; the servers' is left out).

``--growth`` does the same at 0.1 and 10 times the rows and prints how each row grows; ``--readme`` writes the table
into README.md; ``--only`` takes some of the comparisons.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_idle import idle
from bench_report import growth, markdown, table, write_readme
from bench_shop import about, own_queries, prepare
from bench_ways import ROOT, Bench, backups, exports, pushes, restores, starts

from agent.demo.embedded import Cluster, embedded_programs

_ROWS_OF_AN_ORDER = 22.6  # rows of the whole shop for each order of a business
_PARTS = ("restores", "pushes", "exports", "starts", "idle")


def measure(programs: Path, rows: int, rounds: int, parts: Sequence[str], peers: int) -> tuple[dict[str, Any], Bench]:
    """All rounds on a shop of that size, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="backroom-bench-") as name:
        folder = Path(name)
        _compiled(folder / "bytecode")
        cluster = Cluster(folder / "postgres", programs=programs)
        asyncio.run(cluster.start())
        try:
            at, office, alone = prepare(folder, cluster, max(1, round(rows / _ROWS_OF_AN_ORDER)))
            ran_on = asyncio.run(about(cluster, rows)) | {"rounds": rounds}
            bench = Bench(folder, cluster, programs)
            queries = asyncio.run(own_queries(office))
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                bundle = backups(bench, office, at(office), queries)
                if "restores" in parts:
                    restores(bench, at, bundle)
                if "pushes" in parts:
                    pushes(bench, at, alone)
                if "exports" in parts:
                    exports(bench, office, at(office), bundle)
                if "starts" in parts:
                    starts(bench, at(office))
            if "idle" in parts:
                ran_on["idle agent"] = idle(bench, office, peers, 60)
        finally:
            cluster.stop_now()
    return ran_on, bench


def _compiled(folder: Path) -> None:
    """Have all commands find compiled modules, as where Backroom is installed: in a folder apart from the sources."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    names = "m.name for m in pkgutil.walk_packages(agent.__path__, 'agent.') if 'migrations' not in m.name"
    code = f"import agent, importlib, pkgutil; [importlib.import_module(name) for name in ({names})]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the shop (2000000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--try", action="store_true", dest="small", help="50,000 rows and one round")
    parser.add_argument("--only", action="append", choices=("backups", *_PARTS), help="backups, and this (repeat it)")
    parser.add_argument("--peers", type=int, default=10, help="other agents around the idle one (10)")
    parser.add_argument("--growth", action="store_true", help="also at a tenth and at ten times the rows")
    parser.add_argument("--growth-rounds", type=int, help="how often the other sizes are measured (as often)")
    parser.add_argument("--programs", type=Path, help="the bin folder of a PostgreSQL (the newest installed)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    given = parser.parse_args()
    rows, rounds = (50_000, 1) if given.small else (given.rows, given.rounds)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    programs: Path = given.programs or (installed[-1] if installed else embedded_programs())
    parts = given.only or _PARTS
    ran_on, bench = measure(programs, rows, rounds, parts, given.peers)
    exponents = {}
    if given.growth:
        measured = {ran_on["rows"]: bench.results}
        for times in (0.1, 10):
            less = [part for part in parts if part != "idle"]
            other, found = measure(programs, round(rows * times), given.growth_rounds or rounds, less, 0)
            measured[other["rows"]] = found.results
        exponents = growth(measured)
    if given.readme:
        write_readme(ROOT / "README.md", markdown(ran_on, bench.results))
    if given.json:
        results = {
            group: {
                way: asdict(each) | {"median": each.median, "median_busy": each.median_busy}
                for way, each in ways.items()
            }
            for group, ways in bench.results.items()
        }
        print(json.dumps(ran_on | {"results": results, "growth": exponents}))
    else:
        print("\n".join(f"{what}: {value}" for what, value in ran_on.items()))
        print(table(bench.results))
        print("\n".join(f"{what:60} grows with the power {power:.2f}" for what, power in exponents.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
