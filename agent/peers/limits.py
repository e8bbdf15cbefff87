"""How much and how long a peer may ask of this laptop, and how long this laptop waits for a peer."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ROSTER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of the peer server; times in seconds, sizes in bytes."""

    handshake_seconds: float = 10.0
    first_request_seconds: float = 10.0
    """From the end of the handshake until the first request's headers are complete."""
    keepalive_seconds: float = 75.0
    idle_seconds: float = 25.0
    """A body or an answer that does not move for this long is given up."""
    connections: int = 128
    connections_per_peer: int = 16
    uploads_per_peer: int = 4
    uploads: int = 16
    offers_per_minute: int = 120
    """From one device."""
    bundle_bytes: int = 1 << 38
    pulls_per_peer: int = 2
    remembered_seconds: float = 3600.0
    """How long a finished transfer can be asked for."""
    sync_bytes: int = 32 << 20
    """How much of an upload may be in memory of the operating system before it is written through."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Patience of the peer client, in seconds."""

    connect_seconds: float = 5.0
    """From dialling to the end of the TLS handshake."""
    answer_seconds: float = 30.0
    """For the answer to a small request."""
    idle_seconds: float = 25.0
    """A transfer that does not move for this long counts as broken."""
    retry_seconds: float = 3600.0
    """How long a broken transfer is tried again without any byte more getting through: longer than a lid stays closed
    at lunch."""
    first_pause: float = 0.25
    longest_pause: float = 10.0
    """Between tries the pause doubles from the first to the longest."""
    space_seconds: float = 1800.0
    """How long a receiver without space is waited for, and how often it is asked meanwhile."""
    space_pause: float = 5.0
    work_seconds: float = 3600.0
    """For the peer to apply or prepare a bundle, without any progress told."""


DEFAULT_SERVER_LIMITS = ServerLimits()
DEFAULT_CLIENT_LIMITS = ClientLimits()
