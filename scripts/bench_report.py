"""What scripts/bench.py has measured, for people: the table, the README's, and how things grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench_ways import Measured

BEGIN, END = "<!-- bench: written by scripts/bench.py --readme -->", "<!-- /bench -->"
Results = Mapping[str, Mapping[str, Measured]]


def table(results: Results) -> str:
    """The results as text; the ratio is to the first of the group."""
    lines = [f"{'':60} {'median':>9} {'ratio':>6} {'busy':>9} {'ratio':>6} {'MB':>8} {'memory':>9} {'receiver':>9}"]
    for group, ways in results.items():
        first = next(iter(ways.values()))
        for way, found in ways.items():
            size = f"{found.bytes / 1e6:8.1f}" if found.bytes else " " * 8
            memory = [f"{peak >> 20:6} MB" if peak else " " * 9 for peak in (found.peak, found.receiver)]
            lines.append(
                f"{f'{group}: {way}':60} {found.median:7.2f} s {found.median / first.median:6.2f} "
                f"{found.median_busy:7.2f} s {_ratio(found, first):>6} {size} {' '.join(memory)}"
            )
    return "\n".join(lines)


def markdown(about: Mapping[str, Any], results: Results) -> str:
    """The results as the README shows them."""
    lines = [
        f"{about['rows']:,} rows in 143 tables ({about['database bytes'] / 1e6:,.0f} MB in the database), "
        f"{about['machine']}, PostgreSQL {about['server'].split()[0]}, Python {about['python']}; both ends on this "
        f"machine; medians of {about['rounds']} alternating rounds, load {about['load before']} at the start.",
        "",
        "| what | way | seconds | ratio | of processors | ratio | MB | memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for group, ways in results.items():
        first = next(iter(ways.values()))
        for way, found in ways.items():
            size = f"{found.bytes / 1e6:,.1f}" if found.bytes else ""
            peaks = " / ".join(f"{peak >> 20} MB" for peak in (found.peak, found.receiver) if peak)
            named = way.replace("|", "\\|")
            lines.append(
                f"| {group} | {named} | {found.median:.2f} | {found.median / first.median:.2f} "
                f"| {found.median_busy:.2f} | {_ratio(found, first)} | {size} | {peaks} |"
            )
    return "\n".join(lines)


def _ratio(found: Measured, first: Measured) -> str:
    """Of processor time: what a loaded machine changes least."""
    return f"{found.median_busy / first.median_busy:.2f}" if first.median_busy else ""


def write_readme(path: Path, text: str) -> None:
    """Put ``text`` between the markers of a Markdown file. Ends the program where there are none."""
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no place for the table: {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def growth(measured: Mapping[int, Results]) -> dict[str, float]:
    """The exponent of each of our rows over the sizes (rows of the database): 1 is in proportion to the rows.

    The slope of the least squares through the logarithms. Ways of the tools and of fixed size are in it, too.
    """
    exponents = {}
    sizes = [math.log(rows) for rows in measured]
    middle = sum(sizes) / len(sizes)
    first = next(iter(measured.values()))
    for group, ways in first.items():
        for way in ways:
            if not all(way in results.get(group, {}) for results in measured.values()):
                continue
            seconds = [math.log(results[group][way].median) for results in measured.values()]
            mean = sum(seconds) / len(seconds)
            slope = sum((x - middle) * (y - mean) for x, y in zip(sizes, seconds, strict=True))
            exponents[f"{group}: {way}"] = slope / sum((x - middle) ** 2 for x in sizes)
    return exponents
