"""Telling an ended certificate from a wrong clock: the other side is asked what time it has."""

from __future__ import annotations

from datetime import timedelta

from agent.peers.address import Address
from agent.peers.errors import NotTrusted, PeerError
from agent.peers.limits import ClientLimits
from agent.peers.link import Link
from certs.clock import compare
from certs.errors import TrustError
from certs.store import Store
from protocol.messages import Hello

CLOCK_PATH = "/v1/clock"
"""Answered whatever the dates of the certificates say."""
DATED = ("expired-certificate", "certificate-not-yet-valid")
TOLERANCE = timedelta(hours=12)
"""Clocks that differ by less are not the reason why a certificate is out of its time."""


async def judged(store: Store, address: Address, node_id: str, limits: ClientLimits, error: PeerError) -> PeerError:
    """``error``, or where it is about dates and the two clocks differ, the error that names the wrong clock."""
    if error.code not in DATED:
        return error
    link = Link(store, address, node_id, limits, dates=False)
    try:
        await link.open()
        hello = await link.read(Hello.decode, "GET", CLOCK_PATH, seconds=limits.connect_seconds)
        shop = store.require_shop()
    except (PeerError, TrustError):
        return error
    finally:
        await link.close()
    now = store.clock()
    if abs(hello.time - now) < TOLERANCE:
        return error
    return NotTrusted.of(compare(now, hello.time, hello.name, shop))
