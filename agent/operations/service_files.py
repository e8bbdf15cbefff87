"""What the systems want to be told so that the agent runs whenever somebody is logged in: pure text, nothing is done.

Linux: a systemd user unit. macOS: a launchd agent. Windows: a scheduled task at logon, and firewall rules for private
networks. All of them start ``backroom run`` of the Python that is given, on the data folder that is given.
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

NAME = "backroom"
LABEL = "backroom.agent"
TASK = "Backroom"
MDNS_PORT = 5353
# What an invitation may listen on: Windows gives free ports from these.
FREE_PORTS = "49152-65535"

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What is to run: the Python, the data folder, and the user (Windows: ``DOMAIN\\name``)."""

    python: str
    home: str
    user: str = ""

    @property
    def arguments(self) -> Command:
        return ("-m", "agent.cli.main", "--home", self.home, "run")


def systemd_unit(program: Program) -> str:
    """The user unit. Ends by SIGTERM, so that a transfer goes on where it stopped; restarts after a failure."""
    line = " ".join(_systemd_quoted(part) for part in (program.python, *program.arguments))
    return f"""\
[Unit]
Description=Backroom: keeps this laptop's businesses in step with the shop's other laptops

[Service]
ExecStart={line}
Restart=on-failure
RestartSec=10
TimeoutStopSec=30
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


def _systemd_quoted(text: str) -> str:
    """One argument of ExecStart (systemd.service(5)): specifiers and variables stand for themselves."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if plain != text or not plain or any(each in plain for each in " \t'") else plain


def launchd_plist(program: Program) -> str:
    """The launch agent: at login, again after a failure."""
    content = {
        "Label": LABEL,
        "ProgramArguments": [program.python, *program.arguments],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 30,
        "ProcessType": "Background",
        "Umask": 0o077,
    }
    return plistlib.dumps(content, sort_keys=False).decode("utf-8")


def windows_task(program: Program) -> str:
    """The scheduled task: at this user's logon, with this user's rights, on battery too, without an end."""
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Keeps this laptop's businesses in step with the shop's other laptops.</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>{escape(program.user)}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(program.user)}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(program.python)}</Command>
      <Arguments>{escape(" ".join(_windows_quoted(part) for part in program.arguments))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def _windows_quoted(text: str) -> str:
    """One argument as CommandLineToArgvW reads it. A file's name has no quotation mark there."""
    if text and not any(each in text for each in ' \t"'):
        return text
    end = len(text) - len(text.rstrip("\\"))
    return '"' + text.replace('"', '\\"') + "\\" * end + '"'


def windows_firewall(python: str, port: int) -> tuple[Command, ...]:
    """Rules for the agent alone, on networks that Windows takes for private: its port, invitations, and mDNS."""
    rule = ("netsh", "advfirewall", "firewall", "add", "rule", f"name={TASK}", "dir=in", "action=allow")
    common = ("profile=private,domain", f"program={python}")
    return (
        (*rule, *common, "protocol=TCP", f"localport={port},{FREE_PORTS}"),
        (*rule, *common, "protocol=UDP", f"localport={MDNS_PORT}"),
    )


def windows_firewall_removal() -> tuple[Command, ...]:
    """What takes those rules out again."""
    return (("netsh", "advfirewall", "firewall", "delete", "rule", f"name={TASK}"),)


def shell_line(command: Sequence[str], *, windows: bool) -> str:
    """The command as a person types it."""
    if windows:
        return " ".join(_windows_quoted(part) for part in command)
    import shlex

    return shlex.join(command)
