"""What a command says: words on a terminal, or one JSON value with ``--json``. Progress goes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from agent.words import count, duration, moment, size

__all__ = ["Output", "count", "duration", "moment", "plain", "size"]


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: times in ISO form with Z, paths as text."""
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Path():
            return str(value)
        case Enum():
            return value.value
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case str():
            return value
        case Sequence() | set() | frozenset():
            return [plain(item) for item in value]
        case _:
            return value


class Output:
    """Where a command writes. ``as_json`` turns words off and one value on."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.out = out or sys.stdout
        self.err = err or sys.stderr

    @property
    def interactive(self) -> bool:
        """Whether a person is there to answer."""
        return not self.as_json and sys.stdin.isatty() and self.err.isatty()

    def say(self, text: str = "") -> None:
        """A line of the command's answer; nothing with ``--json``."""
        if not self.as_json:
            print(text, file=self.out, flush=True)

    def note(self, text: str) -> None:
        """A line beside the answer, on standard error; nothing with ``--json``."""
        if not self.as_json:
            print(text, file=self.err, flush=True)

    def result(self, value: Any) -> None:
        """The command's answer as JSON; nothing without ``--json``. Flushed, one value a line."""
        if self.as_json:
            print(json.dumps(plain(value), ensure_ascii=False), file=self.out, flush=True)

    def error(self, code: str, message: str, hint: str) -> None:
        """What went wrong, and what to do next."""
        if self.as_json:
            self.result({"error": {"code": code, "message": message, "hint": hint}})
            return
        print(f"Error: {message}", file=self.err)
        if hint:
            print(f"  {hint}", file=self.err)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A plain table; columns in ``right`` are aligned to the right."""
        if self.as_json:
            return
        if not self.out.isatty():
            for row in rows:
                self.say("\t".join(row))
            return
        from agent.log import RICH

        with RICH:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="right" if place in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console(file=self.out).print(table)
