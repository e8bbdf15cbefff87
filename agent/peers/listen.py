"""Listening sockets: one port for IPv4 and IPv6 together, also where the port is any free one."""

from __future__ import annotations

import socket

BACKLOG = 128


def listen(host: str | None, port: int) -> socket.socket:
    """A listening socket on ``host``, or on all interfaces where that is None. Raises ``OSError``."""
    if host is not None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    else:
        listener = _everywhere(port)
    listener.setblocking(False)
    return listener


def _everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        except OSError:
            # Either IPv6 is compiled in but switched off, or the port is taken, which the next line finds out.
            pass
    return socket.create_server(("", port), backlog=BACKLOG)
