"""What whoever restores may choose beside which row wins. Plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Choices:
    """How a restore goes about rows that meet, lack or are too many.

    ``mirror``: the business becomes exactly the bundle's; its rows that the bundle lacks go. ``keep_local``: rows of
    the bundle with another row's number stay out, and what cannot be without them. ``renumber``: they get the next
    free number instead. ``only``: these tables (SQL or plan's names) and what they need. ``as_new``: the name of a
    second business that is made from the bundle, without what happened in the first unless ``with_history``.
    """

    mirror: bool = False
    keep_local: bool = False
    renumber: bool = False
    only: tuple[str, ...] = ()
    as_new: str | None = None
    with_history: bool = False

    def as_dict(self) -> dict[str, Any]:
        """What was chosen, plain values; empty where nothing was."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items() if value
        }


NO_CHOICES = Choices()
