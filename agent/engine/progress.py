"""Progress of long work, as an injected object: the engine reports, whoever called decides what to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """Where the work is: ``stage`` in a word or two, ``done`` of ``total`` rows (total 0: unknown), what of now."""

    stage: str
    done: int = 0
    total: int = 0
    what: str = ""


class Progress(Protocol):
    """Called often and quickly; must not block or raise."""

    def __call__(self, step: Step, /) -> None: ...


def silent(step: Step) -> None:
    """Progress for nobody."""
