"""Alerts: what needs attention is told once, again after a while as long as it lasts, and once more when it is over.

What is open is kept in ``state/alerts.json``, so that a restart repeats nothing. Every way of telling is best effort
by itself; an alert that reached nobody is tried again.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agent.config import Config, load
from agent.log import get_logger
from agent.operations.workspace import Workspace, utc_now

log = get_logger(__name__)

TRIES = (0.0, 2.0, 10.0)
_WEBHOOK_SECONDS = 15
Send = Callable[["Alert", bool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that needs attention. ``key`` names it for as long as it lasts; texts hold no personal data."""

    key: str
    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Open:
    since: str
    told: str | None


class AlertFailed(Exception):
    """An alert could not be told in this way."""


class Alerts:
    """The open alerts of one data folder. Used by the agent alone."""

    def __init__(self, workspace: Workspace, senders: Mapping[str, Send] | None = None) -> None:
        self._workspace = workspace
        self._path = workspace.home.state / "alerts.json"
        self._senders = senders
        self._open: dict[str, _Open] = self._load()

    @property
    def open(self) -> Mapping[str, datetime]:
        """The keys of what is open, and since when."""
        return {key: datetime.fromisoformat(each.since) for key, each in self._open.items()}

    async def hold(self, prefix: str, alerts: tuple[Alert, ...]) -> None:
        """Say what is wrong now among the keys that start with ``prefix``: new ones are told, others are over."""
        now = utc_now()
        config = await asyncio.to_thread(load, self._workspace.home)
        again = timedelta(hours=config.alerts.repeat_hours)
        current = {alert.key: alert for alert in alerts}
        for key in [key for key in self._open if key.startswith(prefix) and key not in current]:
            del self._open[key]
            await self._tell(Alert(key, "over", f"Over: {key}"), over=True)
        for key, alert in current.items():
            known = self._open.get(key)
            told = known.told if known else None
            if told is None or not timedelta(0) <= now - datetime.fromisoformat(told) < again:
                told = now.isoformat() if await self._tell(alert, over=False) else None
            self._open[key] = _Open(known.since if known else now.isoformat(), told)
        await asyncio.to_thread(self._save)

    async def _tell(self, alert: Alert, *, over: bool) -> bool:
        senders = self._senders
        if senders is None:
            senders = senders_of(await asyncio.to_thread(load, self._workspace.home))
        return await tell(senders, alert, over=over)

    def _load(self) -> dict[str, _Open]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): _Open(str(each["since"]), each["told"]) for key, each in kept.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        fresh = self._path.with_name(".alerts.json")
        fresh.write_text(json.dumps({key: asdict(each) for key, each in self._open.items()}), encoding="utf-8")
        fresh.replace(self._path)


async def tell(senders: Mapping[str, Send], alert: Alert, *, over: bool) -> bool:
    """Log it, and tell it in each of these ways. Whether it reached somebody, or there is nobody but the log."""
    (log.info if over else log.error)("alert", alert=alert.code, about=alert.key, message=alert.message, over=over)
    reached = not senders
    for name, send in senders.items():
        try:
            await send(alert, over)
            reached = True
        except AlertFailed as error:
            log.warning("alert not delivered", way=name, about=alert.key, reason=str(error))
    return reached


def senders_of(config: Config) -> dict[str, Send]:
    """The ways of telling that the settings ask for."""
    found: dict[str, Send] = {}
    if config.alerts.webhook is not None:
        url = config.alerts.webhook.get_secret_value()
        found["webhook"] = lambda alert, over: webhook(url, config.name or "", alert, over)
    if config.alerts.email:
        found["email"] = lambda alert, over: email(config, alert, over)
    if config.alerts.desktop and (program := notifier()):
        found["desktop"] = lambda alert, over: desktop(program, alert, over)
    return found


async def try_alert(workspace: Workspace) -> tuple[tuple[str, str], ...]:
    """Tell everybody whom the settings name that this works: each way, and why it did not (else empty)."""
    alert = Alert("try", "try", "This is how Backroom tells you when something needs attention.")
    found = []
    for name, send in senders_of(await asyncio.to_thread(load, workspace.home)).items():
        try:
            await send(alert, False)
            found.append((name, ""))
        except AlertFailed as error:
            found.append((name, str(error)))
    return tuple(found)


def payload(device: str, alert: Alert, over: bool) -> dict[str, object]:
    """What a webhook is sent, as JSON."""
    return {
        "event": "backroom.alert",
        "state": "over" if over else "open",
        "device": device,
        **asdict(alert),
        "at": utc_now().isoformat(),
    }


async def webhook(
    url: str, device: str, alert: Alert, over: bool, tries: tuple[float, ...] = TRIES, within: float = _WEBHOOK_SECONDS
) -> None:
    """POST the alert; tried again after a while where the server does not answer or is at fault (5xx, 429)."""
    import ssl

    from agent.aiohttp_lean import aiohttp

    problem = ""
    authorities = await asyncio.to_thread(ssl.create_default_context)
    timeout = aiohttp.ClientTimeout(total=within)
    for wait in tries:
        await asyncio.sleep(wait)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, json=payload(device, alert, over), ssl=authorities) as answer,
            ):
                if answer.status < 300:
                    return
                problem = f"the server answered {answer.status}"
                if answer.status < 500 and answer.status != 429:
                    break
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = type(error).__name__
    raise AlertFailed(problem)


async def email(config: Config, alert: Alert, over: bool) -> None:
    """Mail the alert over the first mail server of the deliveries, with its facts attached."""
    from agent.delivery.base import Parcel
    from agent.delivery.errors import DeliveryError
    from agent.delivery.places import find_place, open_place

    text = json.dumps(payload(config.name or "", alert, over), indent=2) + "\n"
    fd, name = await asyncio.to_thread(tempfile.mkstemp, prefix="backroom-alert-", suffix=".json")
    path = Path(name)
    try:
        data = text.encode()
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        at = utc_now()
        parcel = Parcel(
            key=f"alert.{at.timestamp():.6f}",
            path=path,
            name="alert.json",
            size=len(data),
            sha256=await asyncio.to_thread(_sha256, path),
            created=at,
            title=f"Backroom on {config.name}: {alert.message}"[:200].replace("\n", " "),
            lines=(alert.message, alert.hint),
        )
        await open_place(find_place("email:" + ",".join(config.alerts.email), config.delivery)).deliver(parcel)
    except DeliveryError as error:
        raise AlertFailed(str(error)) from error
    finally:
        await asyncio.to_thread(path.unlink)


def _sha256(path: Path) -> str:
    from agent.archive.files import sha256

    return sha256(path)


def notifier() -> tuple[str, ...]:
    """The program that shows a notification on this desktop, () where there is none."""
    if sys.platform == "darwin":
        return (
            "osascript",
            "-e",
            "on run argv",
            "-e",
            "display notification (item 2 of argv) with title (item 1 of argv)",
            "-e",
            "end run",
        )
    if sys.platform == "win32":
        return ("msg.exe", "*", "/TIME:60") if shutil.which("msg.exe") else ()
    if not (os.environ.get("DBUS_SESSION_BUS_ADDRESS") and shutil.which("notify-send")):
        return ()
    return ("notify-send", "--app-name=Backroom", "--")


async def desktop(program: tuple[str, ...], alert: Alert, over: bool) -> None:
    """Show the alert on this computer's screen."""
    title = "Backroom: over" if over else "Backroom"
    match program[0]:
        case "msg.exe":
            words = [f"{title}: {alert.message}"]
        case "notify-send":
            # It reads backslashes, and the desktop markup: names of other laptops are neither.
            words = [title, html.escape(alert.message, quote=False).replace("\\", r"\\")]
        case _:
            words = [title, alert.message]
    try:
        process = await asyncio.create_subprocess_exec(
            *program, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            code = await process.wait()
    except (OSError, TimeoutError) as error:
        raise AlertFailed(str(error) or type(error).__name__) from error
    if code:
        raise AlertFailed(f"{program[0]} ended with {code}")
