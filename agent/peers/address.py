"""Where a peer may be reached: an IP address or host name with a port, and how we came to know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.peers.errors import BadAddress


class Origin(StrEnum):
    """How an address became known. None of them is trusted: only the TLS certificate proves who answers."""

    MDNS = "mdns"
    LAST_GOOD = "last-good"
    MANUAL = "manual"
    TOLD = "told"
    """Another device of the shop says so."""


@dataclass(frozen=True, slots=True)
class Address:
    """``host`` is an IP address (IPv6 with its zone where it needs one) or a host name."""

    host: str
    port: int
    origin: Origin = Origin.MANUAL

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def place(self) -> tuple[str, int]:
        """What makes two addresses the same, whatever their origin."""
        return (self.host, self.port)

    @classmethod
    def parse(cls, text: str, default_port: int | None = None, origin: Origin = Origin.MANUAL) -> Address:
        """Read ``HOST:PORT``, ``[IPV6]:PORT``, or a host alone where there is a default port; else ``BadAddress``."""
        text = text.strip()
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            port_text = rest[1:] if rest.startswith(":") else ""
            good = bool(bracket) and (rest == "" or rest.startswith(":"))
        elif text.count(":") > 1:
            host, port_text, good = text, "", True
        else:
            host, _, port_text = text.partition(":")
            good = True
        if not good or not host or len(host) > 255 or not set(port_text) <= set("0123456789"):
            raise BadAddress(text)
        port = int(port_text) if port_text else default_port
        if port is None or not 0 < port < 65536:
            raise BadAddress(text)
        return cls(host, port, origin)
