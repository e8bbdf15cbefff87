"""A desktop that shows notifications: a session bus, a display in memory, and dunst as the real daemon of both."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.agents import wait_until

PROGRAMS = ("dbus-daemon", "dbus-send", "Xvfb", "dunst", "dunstctl", "notify-send")


def desktop_reason() -> str | None:
    """Why there is no such desktop here; None where there is one."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Desktop:
    """What runs on the desktop has its ``env``."""

    env: dict[str, str]

    def dunstctl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["dunstctl", *arguments], env=os.environ | self.env, capture_output=True, text=True, check=False, timeout=20
        )
        return done.stdout

    def shown(self) -> tuple[str, str]:
        """Title and words of the one notification on the screen, as they are read there: without their markup."""
        wait_until(lambda: self.dunstctl("count", "displayed").strip() == "1", what="a notification on the screen")
        self.dunstctl("close-all")
        wait_until(lambda: self.dunstctl("count", "history").strip() == "1", what="the notification's end")
        ((found,),) = json.loads(self.dunstctl("history"))["data"]
        title, _, words = html.unescape(re.sub(r"<[^>]*>", "", found["message"]["data"])).partition("\n")
        return title, words


@contextmanager
def desktop(folder: Path) -> Iterator[Desktop]:
    """A desktop of its own as long as the block lasts."""
    address = f"unix:path={folder / 'bus'}"
    with ExitStack() as stack:

        def start(*command: str, **more: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                command, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            return process

        bus = start("dbus-daemon", "--session", "--nofork", f"--address={address}", "--print-address")
        display = start("Xvfb", "-displayfd", "1", "-screen", "0", "800x300x24", "-nolisten", "tcp")
        assert bus.stdout is not None
        assert bus.stdout.readline()
        assert display.stdout is not None
        env = {
            "DBUS_SESSION_BUS_ADDRESS": address,
            "DISPLAY": f":{int(display.stdout.readline())}",
            "XDG_CONFIG_HOME": str(folder),
        }
        start("dunst", **env)
        found = Desktop(env)
        wait_until(lambda: found.dunstctl("count", "displayed").strip() == "0", what="dunst")
        yield found
