"""What the glance at the shop shows: laptops, businesses, and how each is on each, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.operations.glance_memory import Checked


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """A laptop of the shop. ``online`` is None until it was asked; ``seen`` when it last answered."""

    node_id: str
    short_id: str
    name: str
    role: str
    this: bool
    online: bool | None
    seen: datetime | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A business on a laptop.

    ``state``: ``here``, ``name-only`` and ``missing`` (this laptop); ``identical``, ``newer-here``, ``newer-there``,
    ``both`` (each side has newer rows, or nobody can tell), ``unchecked`` (it is there), ``there`` (and not here),
    ``absent`` (it is not), ``unknown`` (the laptop has not answered yet, and nothing is remembered). A business that
    is on another laptop in name only, since rows of others refer to it, is not there. ``since`` the check rows may have
    changed ``here``, ``there`` or on ``both``; ``unknown``: nobody watched; else empty.
    """

    device: DeviceSeen
    state: str
    checked: Checked | None = None
    since: str = ""


@dataclass(frozen=True, slots=True)
class BusinessSeen:
    """A business with its cells, in the order of the devices."""

    id: str
    name: str
    demo: bool
    here: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class View:
    """All of it at one moment. ``problem`` and ``hint`` say why the database here cannot be read, else empty."""

    shop: str | None
    devices: tuple[DeviceSeen, ...]
    businesses: tuple[BusinessSeen, ...]
    waiting: int
    arriving: tuple[tuple[str, str], ...] = ()
    """What comes in now, and from which laptop."""
    problem: str = ""
    hint: str = ""
