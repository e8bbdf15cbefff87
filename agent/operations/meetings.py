"""When this laptop begins a meeting: two laptops meet once in a round, and that one meeting serves both (PEER.md).

The smaller node ID begins. The other one does so where it was not met in time, where it has never reached the first at
the address that is announced now (only who has been dialled is known to be there), and at once where the roster here is
newer than the one with which the two parted.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_SECONDS = 30.0
SECONDS_FOR_EACH = 10.0
"""In a large shop the others are met less often: what is urgent is told at once."""
SOON_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""How long one who appears is left to begin, where that is his part."""
_PATIENCE = 1.5
"""In rounds: who did not begin for so long is met by the other."""


@dataclass(slots=True)
class _Met:
    at: float
    version: int


class Meetings:
    """Who was met when. Times are seconds of one clock; ``own`` is this laptop's node ID, ``started`` its start."""

    def __init__(self, own: str, started: float) -> None:
        self._own = own
        self._started = started
        self._met: dict[str, _Met] = {}
        self._seen: dict[str, float] = {}
        self._dialled: dict[str, float] = {}

    def seen(self, node_id: str, now: float) -> None:
        """The device has appeared on the network, or has other addresses."""
        self._seen[node_id] = now

    def met(self, node_id: str, now: float, version: int) -> None:
        """A meeting has ended, whoever began it: both have the roster of this version."""
        self._met[node_id] = _Met(now, version)

    def dialled(self, node_id: str, now: float, version: int) -> None:
        """This laptop has begun a meeting, which has ended or could not be had."""
        self._dialled[node_id] = now
        self.met(node_id, now, version)

    def due(self, node_id: str, version: int, devices: int, *, proven: bool) -> float:
        """From when on this laptop is to begin a meeting with the device.

        ``version`` is that of the roster here, ``devices`` how many the shop has, ``proven`` whether the device was
        reached where it is said to be now.
        """
        begins = self._own < node_id or not proven
        met, seen = self._met.get(node_id), self._seen.get(node_id, self._started)
        if not proven and self._dialled.get(node_id, seen - 1) < seen:
            return seen + SOON_SECONDS  # also if the other one has met this laptop already
        if met is None or met.at < seen:
            return seen + (SOON_SECONDS if begins else PATIENCE_SECONDS)
        if met.version < version:
            return met.at
        return met.at + max(SHORTEST_SECONDS, SECONDS_FOR_EACH * devices) * (1.0 if begins else _PATIENCE)
