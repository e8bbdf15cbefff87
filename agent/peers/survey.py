"""Looking at the network without judging: what ``backroom doctor`` draws its conclusions from. Nothing here raises."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import secrets
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.peers.address import Address
from agent.peers.interfaces import Interface, Leads, interfaces

GROUP, GROUP_6, PORT = "224.0.0.251", "ff02::fb", 5353
HEAR_SECONDS = 1.0
KNOCK_SECONDS = 3.0


class Knock(StrEnum):
    """What a TCP connection to an address met."""

    OPEN = "open"
    CLOSED = "closed"
    SILENT = "silent"
    NO_ROUTE = "no-route"


@dataclass(frozen=True, slots=True)
class Reached:
    """One address of a peer as seen from here: what knocking met, the interface that the route takes, whether the
    address is in one of our networks, whether the link layer answered for it (None where that cannot be known), and
    whether the address is this machine's own."""

    address: Address
    knock: Knock
    interface: str
    leads: Leads | None
    near: bool
    neighbour: bool | None
    own: bool = False


async def reach(address: Address, found: Sequence[Interface]) -> Reached:
    """Knock at an address and see which way the knock went."""
    knock = await _knock(address)
    by = await asyncio.to_thread(_interface_to, address, found)
    try:
        ip = ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return Reached(address, knock, by.name if by else "", by.leads if by else None, False, None)
    near = any(interface.holds(ip) for interface in found if interface.leads is not Leads.ITSELF)
    own = not ip.is_loopback and any(ip == each for interface in found for each, _ in interface.addresses)
    neighbour = await asyncio.to_thread(_neighbour, str(ip))
    return Reached(address, knock, by.name if by else "", by.leads if by else None, near, neighbour, own)


async def _knock(address: Address) -> Knock:
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except ConnectionRefusedError:
        return Knock.CLOSED
    except TimeoutError:
        return Knock.SILENT
    except OSError as error:
        silent = error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
        return Knock.SILENT if silent else Knock.NO_ROUTE
    writer.close()
    return Knock.OPEN


def _interface_to(address: Address, found: Sequence[Interface]) -> Interface | None:
    """The interface that packets to an address leave by: connecting a UDP socket sends nothing and fixes the route."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)
            own = ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except OSError:
        return None
    return next((each for each in found if any(own == ip for ip, _ in each.addresses)), None)


def _neighbour(address: str) -> bool | None:
    """Whether the link layer knows the address (Linux, IPv4); None where nothing is known."""
    if not sys.platform.startswith("linux") or ":" in address:
        return None
    try:
        lines = Path("/proc/net/arp").read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 4 and fields[0] == address:
            return int(fields[2], 16) & 2 != 0
    return None


@dataclass(frozen=True, slots=True)
class Multicast:
    """Whether this machine hears its own multicast on an interface; ``error`` says why it could not even try."""

    interface: str
    heard: bool
    error: str = ""


async def multicast(found: Sequence[Interface]) -> tuple[Multicast, ...]:
    """Send an mDNS question on each network, by IPv4 and by IPv6 where it has them, and listen for it.

    One of the two is enough: laptops are announced by both.
    """
    tried = [_hear_by_either(each) for each in found if each.leads in (Leads.LAN, Leads.TUNNEL)]
    return tuple(each for each in await asyncio.gather(*tried) if each is not None)


async def _hear_by_either(interface: Interface) -> Multicast | None:
    first = next((str(ip) for ip, _ in interface.addresses if ip.version == 4), None)
    by_six = any(ip.version == 6 for ip, _ in interface.addresses)
    ways = [_by_four(first)] if first is not None else []
    ways += [_by_six(interface.name)] if by_six else []
    heard = await asyncio.gather(*(_hear_itself(interface.name, each) for each in ways))
    return max(heard, key=lambda each: each.heard) if heard else None


Open = Callable[[], tuple[socket.socket, socket.socket, tuple[str, int]]]
"""Opens what listens to mDNS on one network and what sends to it, and gives the group's address; raises ``OSError``."""


async def _hear_itself(name: str, opening: Open) -> Multicast:
    question = _question(f"backroom-doctor-{secrets.token_hex(8)}")
    loop = asyncio.get_running_loop()
    try:
        listener, sender, group = opening()
    except OSError as error:
        return Multicast(name, False, error.strerror or str(error))
    try:
        if sys.platform.startswith("linux") and not _flag_multicast(name):
            return Multicast(name, False, "multicast is switched off on it")
        sender.sendto(question, group)
        async with asyncio.timeout(HEAR_SECONDS):
            while await loop.sock_recv(listener, 9000) != question:
                pass
    except TimeoutError:
        return Multicast(name, False)
    except OSError as error:
        return Multicast(name, False, error.strerror or str(error))
    finally:
        listener.close()
        sender.close()
    return Multicast(name, True)


def _by_four(address: str) -> Open:
    def opening() -> tuple[socket.socket, socket.socket, tuple[str, int]]:
        with ExitStack() as stack:
            listener = stack.enter_context(_bound(socket.AF_INET))
            membership = socket.inet_aton(GROUP) + socket.inet_aton(address)
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            stack.pop_all()
        return listener, sender, (GROUP, PORT)

    return opening


def _by_six(name: str) -> Open:
    def opening() -> tuple[socket.socket, socket.socket, tuple[str, int]]:
        index = socket.if_nametoindex(name)
        with ExitStack() as stack:
            listener = stack.enter_context(_bound(socket.AF_INET6))
            membership = socket.inet_pton(socket.AF_INET6, GROUP_6) + struct.pack("@I", index)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
            sender = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            stack.pop_all()
        return listener, sender, (GROUP_6, PORT)

    return opening


def _bound(family: socket.AddressFamily) -> socket.socket:
    """A socket on mDNS's port beside others that are on it, too."""
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", PORT))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _flag_multicast(name: str) -> bool:
    """Whether the interface may do multicast at all (IFF_MULTICAST, 0x1000)."""
    try:
        return int(Path(f"/sys/class/net/{name}/flags").read_text(), 16) & 0x1000 != 0
    except (OSError, ValueError):
        return True


def _question(label: str) -> bytes:
    """An mDNS question (RFC 6762) for a service that nobody offers."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in (label, "_backroom", "_tcp", "local"))
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 12, 1)


async def port_free(host: str | None, port: int) -> bool:
    """Whether this machine could listen on a port."""
    from agent.peers.listen import listen

    try:
        (await asyncio.to_thread(listen, host, port)).close()
    except OSError:
        return False
    return True


async def look() -> tuple[Interface, ...]:
    """The interfaces that there are now."""
    return await asyncio.to_thread(interfaces)


async def windows_network() -> tuple[str, str]:
    """On Windows: what ``Get-NetConnectionProfile`` says of the networks, and ``netsh`` of the rules for incoming
    connections to Backroom; empty elsewhere or where they cannot be asked."""
    if sys.platform != "win32":
        return "", ""
    profile = await _say("powershell", "-NoProfile", "-Command", "(Get-NetConnectionProfile).NetworkCategory")
    rules = await _say("netsh", "advfirewall", "firewall", "show", "rule", "name=Backroom")
    return profile, rules


async def _say(*words: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            out, _ = await process.communicate()
    except (OSError, TimeoutError):
        return ""
    return out.decode(errors="replace")
