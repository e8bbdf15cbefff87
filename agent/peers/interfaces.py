"""This machine's network interfaces: which of them lead to other laptops, and which only look as if they did.

Names decide, since no system says it better: container bridges carry the same addresses on every laptop and are not
told to others while there is anything else; tunnels are told, but tried last. Nothing here hides a peer that answers:
addresses are only left out of what this laptop says about itself, never out of what it tries.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import ifaddr

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Leads(StrEnum):
    """Where an interface leads to."""

    LAN = "lan"
    TUNNEL = "tunnel"
    CONTAINERS = "containers"
    ITSELF = "itself"


_TUNNEL = re.compile(
    r"^(tun|tap|utun|wg|ppp|ipsec|gpd|tailscale|zt|nordlynx|proton|cscotun|vpn)\w*$"
    r"|tap-windows|wireguard|openvpn|wintun|anyconnect|fortinet|globalprotect|tailscale|zerotier|\bvpn\b",
    re.IGNORECASE,
)
_CONTAINERS = re.compile(
    r"^(docker|br-[0-9a-f]{6,}|veth|virbr|cni|flannel|cali|podman|lxcbr|lxdbr|kube)|vethernet|hyper-v virtual|wsl",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface: its name as people see it, its addresses with their networks, and where it leads."""

    name: str
    addresses: tuple[tuple[Ip, Network], ...]
    leads: Leads

    def holds(self, address: Ip) -> bool:
        """Whether an address is in a network of this interface."""
        return any(address.version == network.version and address in network for _, network in self.addresses)


def leads(name: str, addresses: Iterable[Ip]) -> Leads:
    """Where an interface of this name with these addresses leads to."""
    if all(address.is_loopback for address in addresses):
        return Leads.ITSELF
    if _TUNNEL.search(name):
        return Leads.TUNNEL
    return Leads.CONTAINERS if _CONTAINERS.search(name) else Leads.LAN


def interfaces() -> tuple[Interface, ...]:
    """All interfaces that have an address. Blocking."""
    found = []
    for adapter in ifaddr.get_adapters():
        addresses: list[tuple[Ip, Network]] = []
        for each in adapter.ips:
            text = each.ip if isinstance(each.ip, str) else each.ip[0]
            whole = ipaddress.ip_interface(f"{text}/{each.network_prefix}")
            addresses.append((ipaddress.ip_address(text), whole.network))
        if addresses:
            kind = leads(adapter.nice_name, [address for address, _ in addresses])
            found.append(Interface(adapter.nice_name, tuple(addresses), kind))
    return tuple(found)


def worth_telling(found: Sequence[Interface], only: Sequence[str] | None = None) -> tuple[str, ...]:
    """The addresses at which others may try this machine; only those in ``only`` where that is given.

    Container bridges are left out while there is any other way here. A machine without a network still has its
    loopback address, by which agents on it find each other.
    """
    kinds: dict[str, Leads] = {}
    for interface in found:
        for address, _ in interface.addresses:
            usable = not (address.is_loopback or address.is_link_local or address.is_unspecified)
            if str(address) in only if only is not None else usable:
                kinds[str(address)] = interface.leads
    chosen = {text for text, kind in kinds.items() if kind is not Leads.CONTAINERS} or set(kinds)
    return tuple(sorted(chosen)) or ("127.0.0.1",)


def nearness(host: str, found: Sequence[Interface]) -> int:
    """How likely an address leads straight to a peer, 0 best: a network shared with us, any other, a tunnel's or a
    container bridge's, link-local, our own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return 1
    if any(address == own for interface in found for own, _ in interface.addresses):
        return 4
    if address.is_link_local:
        return 3
    holding = [interface.leads for interface in found if interface.holds(address)]
    if Leads.LAN in holding:
        return 0
    return 2 if holding else 1
