"""A network of our own: namespaces joined by a bridge, nothing of which touches the machine's network."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO


def why_not() -> str | None:
    """Why such networks cannot be made here, or None."""
    if sys.platform != "linux":
        return "network namespaces are a Linux feature"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"br-try-{secrets.token_hex(3)}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here ({tried.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


def run(*words: str) -> None:
    """One command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Host:
    """A network namespace with one interface, ``eth0``, on the bridge."""

    name: str

    def run(self, *words: str) -> None:
        """A command inside, which must succeed."""
        run("ip", "netns", "exec", self.name, *words)

    def address(self, verb: str, address: str) -> None:
        """``add`` or ``del`` an address of ``eth0``."""
        extra = ("nodad",) if ":" in address and verb == "add" else ()
        self.run("ip", "address", verb, address, "dev", "eth0", *extra)

    def link(self, state: str) -> None:
        """Plug the cable in (``up``) or out (``down``)."""
        self.run("ip", "link", "set", "eth0", state)

    def start(self, *words: str, stderr: IO[str] | None = None) -> subprocess.Popen[str]:
        """A process inside; the caller ends it."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *words], stdout=subprocess.PIPE, stderr=stderr, text=True
        )


class Lan:
    """Hosts on one bridge, each with the given addresses. Use as a context manager: it leaves nothing behind."""

    def __init__(self, *hosts: Sequence[str]) -> None:
        self._wanted = hosts
        self._stack = ExitStack()
        self._switch: Host | None = None
        self.hosts: list[Host] = []

    def flood_multicast(self, state: str) -> None:
        """Have the switch pass multicast on (``on``) or swallow it (``off``), as many access points do."""
        assert self._switch is not None
        for number in range(len(self.hosts)):
            self._switch.run("bridge", "link", "set", "dev", f"port{number}", "mcast_flood", state)

    def lossy(self, share: float, seconds: float) -> None:
        """Lose this share of all packets between the first two hosts, and delay each by so many seconds.

        Done by a process in the switch's place (``tests.lan.wire``): not every kernel has netem.
        """
        assert self._switch is not None
        for number, host in enumerate(self.hosts[:2]):
            self._switch.run("ip", "link", "set", f"port{number}", "nomaster")
            host.run(sys.executable, "-m", "tests.lan.wire", "plain", "eth0")
        wire = self._switch.start(sys.executable, "-m", "tests.lan.wire", "port0", "port1", str(share), str(seconds))
        self._stack.callback(_end, wire)

    def __enter__(self) -> Lan:
        tag = secrets.token_hex(3)
        with ExitStack() as stack:
            switch = self._switch = self._namespace(stack, f"br-{tag}-switch")
            switch.run("ip", "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
            switch.run("ip", "link", "set", "bridge", "up")
            for number, addresses in enumerate(self._wanted):
                host = self._namespace(stack, f"br-{tag}-{number}")
                self.hosts.append(host)
                port = f"port{number}"
                run("ip", "link", "add", port, "netns", switch.name, "type", "veth", "peer", "eth0", "netns", host.name)
                switch.run("ip", "link", "set", port, "master", "bridge", "up")
                host.run("ip", "link", "set", "lo", "up")
                host.link("up")
                for address in addresses:
                    host.address("add", address)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _namespace(stack: ExitStack, name: str) -> Host:
        run("ip", "netns", "add", name)
        stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        return Host(name)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
