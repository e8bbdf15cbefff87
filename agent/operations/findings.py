"""What is wrong, judged from facts alone (``backroom doctor``): no file, socket or clock is touched here.

Each function takes what was seen and returns findings: what is the matter, in one sentence, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from agent.peers.interfaces import Interface, Leads
from agent.peers.survey import Knock, Multicast, Reached

CLOCK_TOLERANCE = timedelta(minutes=2)
RENEW_BEFORE = timedelta(days=14)
LEAST_FREE = 1_000_000_000
LISTED = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``about`` is a laptop, a table, a disk; "" for this laptop as a whole."""

    code: str
    about: str
    message: str
    hint: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Agent:
    """This laptop's agent: whether it runs, the port that it has or would have, whether that port is free or taken by
    somebody else, and whether it answered on that port."""

    running: bool
    port: int
    free: bool
    answered: bool


def judge_agent(agent: Agent) -> Iterator[Finding]:
    """The agent and its port."""
    if agent.running and not agent.answered:
        yield Finding(
            "agent-deaf",
            "",
            f"The agent runs, but does not answer on port {agent.port} of this laptop itself.",
            "Stop `backroom run` and start it again; look at its log for the reason.",
        )
    if not agent.running:
        yield Finding(
            "agent-not-running",
            "",
            "The agent does not run on this laptop: others cannot push to it or find it.",
            "Start `backroom run` and leave it running.",
        )
        if not agent.free and agent.port:
            yield Finding(
                "port-taken",
                f"port {agent.port}",
                f"Another program of this laptop uses port {agent.port}, which the agent is to listen on.",
                "Close that program, or choose another `port` in config.toml.",
            )


def judge_network(found: Sequence[Interface], heard: Sequence[Multicast], seen: int) -> Iterator[Finding]:
    """The interfaces, and whether mDNS works on them. ``seen``: laptops that mDNS has found just now."""
    lan = [each for each in found if each.leads is Leads.LAN]
    if not lan:
        yield Finding(
            "no-network",
            "",
            "This laptop is connected to no local network.",
            "Connect it to the shop's Wi-Fi or cable.",
        )
        return
    names = {each.name for each in lan}
    deaf = [each for each in heard if not each.heard and each.interface in names]
    if deaf and len(deaf) == sum(each.interface in names for each in heard):
        why = f" ({deaf[0].error})" if deaf[0].error else ""
        yield Finding(
            "no-multicast",
            ", ".join(each.interface for each in deaf),
            f"This laptop does not hear its own mDNS announcements{why}: others cannot be found by themselves.",
            "Allow UDP port 5353 in its firewall; or list the others' addresses under `peers` in config.toml.",
        )
    elif not seen:
        yield Finding(
            "nobody-announced",
            "",
            "No other laptop's announcement (mDNS) arrives here, though this laptop can hear multicast.",
            "If others run, the router may block multicast: list their addresses under `peers` in config.toml.",
        )


def judge_windows(profile: str, rules: str) -> Iterator[Finding]:
    """What Windows says of its networks and firewall (``survey.windows_network``)."""
    if "public" in profile.lower() and "enabled" not in rules.lower():
        yield Finding(
            "public-network",
            "",
            "Windows takes this network for a public one and blocks incoming connections.",
            "Settings, Network: choose Private; or allow Backroom in the firewall: netsh advfirewall firewall add rule "
            "name=Backroom dir=in action=allow protocol=TCP localport=47600.",
        )


_TRUST = {
    "expired-certificate": "Let an admin's laptop come online: the certificate is renewed there; check both clocks.",
    "certificate-not-yet-valid": "Set the clock that is wrong.",
    "wrong-clock": "Set the clock that is wrong.",
    "unknown-device": "Join the same shop: `backroom invite` there, `backroom join` here.",
    "wrong-shop": "Both laptops must belong to the same shop.",
    "revoked-device": "A revoked laptop only comes back by a new invitation.",
    "version-mismatch": "Update Backroom on the older laptop.",
}


@dataclass(frozen=True, slots=True)
class Absent:
    """A laptop that does not answer as itself: the error that trying it ended with, and what was met at each address
    that is known for it."""

    name: str
    code: str
    message: str
    hint: str
    places: Sequence[Reached]
    announced: bool


def judge_absent(absent: Absent) -> Finding:
    """The likeliest reason why a laptop cannot be reached: one finding."""
    name = absent.name
    if absent.code in _TRUST or absent.code in ("not-trusted", "wrong-node", "wrong-device", "bad-answer"):
        return Finding(absent.code, name, absent.message, _TRUST.get(absent.code, absent.hint))
    others = [place for place in absent.places if not place.own]
    if not others:
        return Finding(
            "not-seen",
            name,
            f"No address of {name} is known, and it does not announce itself on this network.",
            f"Start `backroom run` on {name}, on this network; or list its address under `peers` in config.toml.",
        )
    listed = ", ".join(str(place.address) for place in others[:LISTED])
    tunnelled = [place for place in others if place.leads is Leads.TUNNEL]
    if tunnelled and len(tunnelled) == len(others):
        return Finding(
            "vpn-route",
            name,
            f"The way to {name} ({listed}) goes through {tunnelled[0].interface}, a VPN, and ends there.",
            "Switch the VPN off, or let it leave the local network alone (split tunnel).",
        )
    if any(place.knock is Knock.CLOSED for place in others):
        return Finding(
            "agent-away",
            name,
            f"A computer answers at {listed}, but no agent listens there.",
            f"Start `backroom run` on {name}; if it runs there, its port differs or a firewall rejects it.",
        )
    if any(place.knock is Knock.OPEN for place in others):
        return Finding(absent.code, name, absent.message, absent.hint)
    if not any(place.near for place in others):
        return Finding(
            "other-subnet",
            name,
            f"{name} was last at {listed}, which is in none of this laptop's networks, and does not answer there.",
            "Bring both into one network (two routers make two), or set a route and list its address under `peers`.",
        )
    if absent.announced or any(place.neighbour for place in others):
        return Finding(
            "firewall",
            name,
            f"{name} is on this network ({listed}), but connections to it are swallowed.",
            f"Allow Backroom's port (TCP 47600) in the firewall of {name}; on Windows make the network Private.",
        )
    return Finding(
        "silent-neighbour",
        name,
        f"Nothing answers at {listed}: {name} is off, asleep, elsewhere, or the Wi-Fi keeps its clients apart.",
        f"Wake {name}. If it is on: switch off client isolation (guest Wi-Fi) in the router, or use a cable.",
    )


def judge_clock(name: str, theirs: datetime, ours: datetime) -> Iterator[Finding]:
    """How far a peer's clock is from ours."""
    apart = theirs - ours
    if abs(apart) > CLOCK_TOLERANCE:
        way = "ahead of" if apart > timedelta(0) else "behind"
        minutes = abs(apart).total_seconds() / 60
        yield Finding(
            "clock",
            name,
            f"The clock of {name} is {minutes:.0f} minutes {way} this one: "
            f"{theirs:%Y-%m-%d %H:%M} there, {ours:%Y-%m-%d %H:%M} here (UTC).",
            "Set the clock that is wrong: newer rows win by it, and certificates hold by it.",
        )


def judge_certificate(begins: datetime, ends: datetime, now: datetime, *, active: bool) -> Iterator[Finding]:
    """This laptop's own certificate and place in the shop."""
    if not active:
        yield Finding(
            "revoked",
            "",
            "This laptop was shut out of the shop.",
            "Ask an admin; a new invitation (`backroom invite` there, `backroom join` here) lets it in again.",
        )
    when = f"it is {now:%Y-%m-%d %H:%M} here (UTC)"
    if now < begins:
        yield Finding(
            "certificate-not-yet-valid",
            "",
            f"This laptop's certificate begins at {begins:%Y-%m-%d %H:%M}; {when}.",
            "This laptop's clock is behind: set it.",
        )
    elif now >= ends:
        yield Finding(
            "certificate-expired",
            "",
            f"This laptop's certificate ended at {ends:%Y-%m-%d %H:%M}; {when}.",
            "If the date is right, let it meet an admin's laptop, which renews it; else set the clock.",
        )
    elif now > ends - RENEW_BEFORE:
        yield Finding(
            "certificate-ends",
            "",
            f"This laptop's certificate ends at {ends:%Y-%m-%d}, and no admin's laptop has renewed it yet.",
            "Let it meet an admin's laptop with its agent running.",
        )


def judge_disk(free: Mapping[str, int]) -> Iterator[Finding]:
    """Free bytes by folder."""
    for folder, left in free.items():
        if left < LEAST_FREE:
            yield Finding(
                "disk",
                folder,
                f"Only {left // 1_000_000} MB are free where {folder} is.",
                "Free some space: pushes wait and backups fail without it. See `backroom prune`.",
            )


def judge_rights(missing: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Rights that the database user lacks, by table."""
    for table, rights in sorted(missing.items()):
        yield Finding(
            "database-rights",
            table,
            f"The database user may not {', '.join(rights)} in {table}.",
            f'As the table\'s owner: GRANT {", ".join(rights)} ON "{table}" TO the user in database_url.',
        )


def judge_unclassified(tables: Collection[str]) -> Iterator[Finding]:
    """Tables that no rule knows."""
    if tables:
        yield Finding(
            "unclassified",
            shortened(sorted(tables)),
            f"Backroom does not know what these tables are: {shortened(sorted(tables))}. They stay out of business "
            "backups.",
            "Classify them in tables.toml (`backroom tables --help`).",
        )


Shapes = Mapping[str, Mapping[str, str]]
"""Columns with their types, by table."""


def judge_schema(name: str, ours: Shapes, theirs: Shapes) -> Iterator[Finding]:
    """Where the tables of two laptops differ, as far as rows may travel between them."""
    for text, code, some, others in (
        (f"{name} lacks", "schema-there", ours, theirs),
        ("This laptop lacks", "schema-here", theirs, ours),
    ):
        lacking = [table for table in sorted(some) if table not in others]
        for table in sorted(set(some) & set(others)):
            lacking += [f"{table}.{column}" for column in sorted(set(some[table]) - set(others[table]))]
        if lacking:
            where = name if code == "schema-there" else "this laptop"
            yield Finding(
                code, name, f"{text} {shortened(lacking)}.", f"Update the platform on {where} (run its migrations)."
            )
    differing = [
        f"{table}.{column} ({ours[table][column]} here, {theirs[table][column]} there)"
        for table in sorted(set(ours) & set(theirs))
        for column in sorted(set(ours[table]) & set(theirs[table]))
        if ours[table][column] != theirs[table][column]
    ]
    if differing:
        yield Finding(
            "schema-types",
            name,
            f"Columns have other types on {name}: {shortened(differing)}.",
            "Bring the platform to the same version on both laptops.",
        )


def shortened(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
