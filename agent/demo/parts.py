"""What the parts of the demo's data share: the shop and its businesses."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.demo.rows import Row, Rows

FIRST_NAMES = (
    "Tendai",
    "Rudo",
    "Farai",
    "Chipo",
    "Blessing",
    "Tatenda",
    "Nyasha",
    "Kuda",
    "Grace",
    "Simba",
    "Ruth",
    "Joseph",
)
LAST_NAMES = ("Moyo", "Ncube", "Sibanda", "Dube", "Chikomo", "Mutasa", "Zulu", "Banda", "Phiri", "Marufu", "Khumalo")


@dataclass(frozen=True, slots=True)
class Business:
    """A business of the demo with its staff: ids of its employees and of the users who work in it."""

    row: Row
    kind: str
    short: str
    users: list[str] = field(default_factory=list)
    employees: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        id_: str = self.row["id"]
        return id_


@dataclass(slots=True)
class Shop:
    """What the parts of the demo's data share. ``businesses`` trade; the umbrella business only holds them."""

    rows: Rows
    umbrella: Row
    owner: str
    accountant: str
    businesses: list[Business]
