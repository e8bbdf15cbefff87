"""The clone alarm: one device ID that is live in two places (PEER.md, "Clones").

Every data folder has an instance: a random text that changes when the folder is copied, moved or the computer started
anew. A device shows it with every request and in its hello. A restart changes it once; where an instance comes back
after another one was seen, two copies are at work. Alarms are kept in a file, told to other laptops with each hello,
and stand until an admin settles them: the roster counts per device how often that was done.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from agent.home import Home
from agent.log import get_logger
from agent.peers.errors import PeerError
from certs import files
from certs.errors import TrustError
from certs.roster import Member
from certs.store import Store

log = get_logger(__name__)

MAX_INSTANCE = 64
MAX_TOLD = 100
_REMEMBERED = 8
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")
_MACHINE_ON_WINDOWS = (
    (r"SYSTEM\HardwareConfig", "LastConfig"),  # the mainboard's ID
    (r"SOFTWARE\Microsoft\Cryptography", "MachineGuid"),
)


class CloneAlarm(PeerError):
    """A device whose ID was seen in two places at once."""

    code = "clone-alarm"
    hint = "Find the copy and wipe it, or revoke the device; then an admin runs `backroom clone resolve DEVICE`."


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm about ``node_id``: since when (UTC, ISO), where it was seen, and who said so ("" for this laptop)."""

    node_id: str
    cleared: int
    since: str
    where: tuple[str, ...] = ()
    told_by: str = ""


class Clones:
    """The alarms of one data folder; any number of processes may use it."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._file = home.state / "clones.json"
        self._seen: dict[str, tuple[int, list[tuple[str, str]]]] = {}
        self._cached: tuple[tuple[int, ...], dict[str, Alarm]] | None = None

    @cached_property
    def instance(self) -> str:
        """This folder's instance: the same for all processes that work on it while the computer is up."""
        path, here = self._home.state / "instance.json", _fingerprint(self._home)
        with files.locked(self._home.state / "clones.lock"):
            try:
                value = json.loads(path.read_text("utf-8"))
                if value["place"] == here:
                    return str(value["instance"])[:MAX_INSTANCE]
            except (OSError, ValueError, KeyError, TypeError):
                pass
            instance = secrets.token_hex(16)
            files.replace_private(path, json.dumps({"place": here, "instance": instance}).encode())
        return instance

    @cached_property
    def _own(self) -> str:
        return self._store.identity().node_id

    def seen(self, node_id: str, instance: str, where: str) -> None:
        """A device has proved its ID; raises the alarm where that is the second one at work under this ID."""
        if not instance or len(instance) > MAX_INSTANCE:
            return
        if node_id == self._own:
            if instance != self.instance:
                self.alarm(node_id, (where,))
            return
        member = self._member(node_id)
        if member is None:
            return
        cleared, order = self._seen.get(node_id, (member.cleared, []))
        if cleared != member.cleared:
            order = []
        if not order or order[-1][0] != instance:
            if any(known == instance for known, _ in order):
                self.alarm(node_id, tuple(dict.fromkeys((order[-1][1], where))))
            others = [each for each in order if each[0] != instance]
            order = [*others[1 - _REMEMBERED :], (instance, where)]
        self._seen[node_id] = (member.cleared, order)

    def told(self, by: str, notes: Mapping[str, int]) -> None:
        """Another laptop's alarms: node ID, and how often alarms about it had been settled when it was raised."""
        for node_id, cleared in notes.items():
            member = self._member(node_id)
            if member is not None and member.cleared == cleared:
                self.alarm(node_id, (), told_by=by)

    def alarm(self, node_id: str, where: tuple[str, ...], told_by: str = "") -> None:
        """Raise the alarm about a device of the shop, unless it stands already."""
        member = self._member(node_id)
        if member is None or node_id in self.alarms():
            return
        raised = Alarm(node_id, member.cleared, datetime.now(UTC).isoformat(timespec="seconds"), where, told_by)
        with files.locked(self._home.state / "clones.lock"):
            kept = {**self._read(), node_id: raised}
            files.replace_private(self._file, json.dumps({name: asdict(each) for name, each in kept.items()}).encode())
        log.error("clone alarm", node=node_id, name=member.name, where=where, told_by=told_by)

    def alarms(self) -> dict[str, Alarm]:
        """The alarms that stand, by node ID: about active devices, and not settled by an admin since."""
        standing = {}
        for node_id, each in self._read().items():
            member = self._member(node_id)
            if member is not None and member.active and member.cleared == each.cleared:
                standing[node_id] = each
        return standing

    def notes(self) -> dict[str, int]:
        """The standing alarms as they are told to others."""
        return {node_id: each.cleared for node_id, each in list(self.alarms().items())[:MAX_TOLD]}

    def require_clear(self, node_id: str) -> None:
        """Raise :class:`CloneAlarm` if an alarm about the device stands."""
        alarm = self.alarms().get(node_id)
        if alarm is not None:
            member = self._member(node_id)
            name = member.name if member else node_id
            places = f" (seen at {', '.join(alarm.where)})" if alarm.where else ""
            raise CloneAlarm(f"Two laptops are at work under the ID of {name}{places}; nothing is exchanged with it.")

    def _member(self, node_id: str) -> Member | None:
        try:
            return self._store.roster().member(node_id)
        except TrustError:
            return None

    def _read(self) -> dict[str, Alarm]:
        try:
            stamp = files.stamp(self._file)
            if self._cached is None or self._cached[0] != stamp:
                listed = json.loads(self._file.read_text("utf-8"))
                self._cached = (
                    stamp,
                    {name: Alarm(**{**each, "where": tuple(each["where"])}) for name, each in listed.items()},
                )
            return self._cached[1]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("the clone alarms cannot be read", reason=str(error))
            return {}


def _fingerprint(home: Home) -> str:
    """What changes when the folder is copied or moved, or the computer is another one or started anew."""
    status = home.state.stat()
    parts = (_text(_BOOT), _machine(), str(home.path.resolve()), str(status.st_dev), str(status.st_ino))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _machine() -> str:
    """What the system knows this computer by, read without a program of its own; "" where it tells nothing.

    Not the host name and no network address: those change while the computer is up, and what changes makes an alarm.
    Outside Linux no ID of the start is read, so there it is one of the hardware, which an image of the disk lacks.
    """
    if sys.platform == "win32":
        return "\0".join(_registered(*each) for each in _MACHINE_ON_WINDOWS)
    if sys.platform == "darwin":
        return _platform_uuid()
    return _text(_MACHINE)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _registered(path: str, name: str) -> str:
    """A value of the Windows registry."""
    winreg: Any = import_module("winreg")  # there on Windows alone, for type checkers too
    access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path, 0, access) as key:
            return str(winreg.QueryValueEx(key, name)[0])
    except OSError:
        return ""


def _platform_uuid() -> str:
    """``IOPlatformUUID`` of a Mac, as its C library gives it."""
    import ctypes

    found, patience = ctypes.create_string_buffer(16), (ctypes.c_long * 2)(1, 0)
    try:
        failed = ctypes.CDLL(None).gethostuuid(found, patience)
    except (OSError, AttributeError):
        return ""
    return "" if failed else found.raw.hex()
