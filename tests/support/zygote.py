"""Commands as processes that start quickly: forked from one that has imported Backroom, instead of each importing it.

The suite runs over a thousand commands, and most of their time would be imports. The *zygote* imports all modules once
and forks a child for each command; the child sets up arguments, environment, folder and streams of its own, then runs
the command as ``python -m agent.cli.main`` does. All else about it is a process's own: signals, exit, memory, files.
``tests/cli/test_start.py`` and the laboratory start commands in the plain way.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

_HEAD = struct.Struct(">I")
_lock = threading.Lock()
_zygote: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


class Forked:
    """A running command, with those parts of ``subprocess.Popen`` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdout: int,
        stderr: int | IO[bytes],
        text: bool,
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._status, told = os.pipe()
        out, out_child = os.pipe() if stdout == subprocess.PIPE else (None, os.open(os.devnull, os.O_WRONLY))
        err: int | None = None
        if isinstance(stderr, int):
            err, err_child = os.pipe() if stderr == subprocess.PIPE else (None, os.open(os.devnull, os.O_WRONLY))
        else:
            err_child = os.dup(stderr.fileno())
        request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": cwd}).encode()
        try:
            with _lock:
                self.pid = _ask(request, [out_child, err_child, told])
        finally:
            for fd in (told, out_child, err_child):
                os.close(fd)
        mode: dict[str, Any] = {"mode": "r", "encoding": "utf-8"} if text else {"mode": "rb"}
        self.stdin = None
        self.stdout: IO[Any] | None = None if out is None else os.fdopen(out, **mode)
        self.stderr: IO[Any] | None = None if err is None else os.fdopen(err, **mode)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises ``subprocess.TimeoutExpired``."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """All that it writes, read to its end. Raises ``subprocess.TimeoutExpired``; then it may be called again."""
        end = None if timeout is None else time.monotonic() + timeout
        readers = [self._reader(stream) for stream in (self.stdout, self.stderr)]
        found = []
        for thread, parts in readers:
            if thread is not None:
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
                if thread.is_alive():
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            found.append(parts[0] if parts else None)
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        return found[0], found[1]

    def _reader(self, stream: IO[Any] | None) -> tuple[threading.Thread | None, list[Any]]:
        if stream is None or stream.closed:
            return None, []
        known: dict[int, tuple[threading.Thread, list[Any]]] = self.__dict__.setdefault("_reading", {})
        if id(stream) not in known:
            parts: list[Any] = []

            def read() -> None:
                parts.append(stream.read())
                stream.close()

            thread = threading.Thread(target=read, daemon=True)
            known[id(stream)] = thread, parts
            thread.start()
        return known[id(stream)]

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            data = os.read(self._status, 4)
            os.close(self._status)
            # Without an answer the zygote has died, and with it what it knew of the command.
            self.returncode = struct.unpack(">i", data)[0] if data else -signal.SIGKILL
        return self.returncode


def _ask(request: bytes, fds: list[int]) -> int:
    """Have the zygote fork; the child's ID."""
    if not _zygote:
        here, there = socket.socketpair()
        with there:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.zygote", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        _zygote.append((here, process))
        atexit.register(_end)
    control = _zygote[0][0]
    socket.send_fds(control, [_HEAD.pack(len(request))], fds)
    control.sendall(request)
    answer = control.recv(4)
    assert len(answer) == 4, "the zygote has ended"
    return int(struct.unpack(">I", answer)[0])


def _end() -> None:
    control, process = _zygote.pop()
    control.close()
    process.wait()


class _Child(Exception):
    """Raised in the child to leave all that belongs to the zygote."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request


def _serve(control: socket.socket) -> None:
    """Fork until the tests' process is gone."""
    told: dict[int, int] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([control, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 512)
            while told:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                fd = told.pop(pid)
                with contextlib.suppress(BrokenPipeError):
                    os.write(fd, struct.pack(">i", os.waitstatus_to_exitcode(status)))
                os.close(fd)
        if control in ready:
            head, fds, _, _ = socket.recv_fds(control, _HEAD.size, 3)
            if not head:
                return
            request = b""
            while len(request) < _HEAD.unpack(head)[0]:
                request += control.recv(1 << 16)
            out, err, status_fd = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (woken, wake, status_fd, control.detach(), *told.values()):
                    os.close(fd)
                for fd, standard in ((out, 1), (err, 2)):
                    os.dup2(fd, standard)
                    os.close(fd)
                raise _Child(json.loads(request))
            os.close(out)
            os.close(err)
            told[pid] = status_fd
            control.sendall(struct.pack(">I", pid))


def _import_everything() -> None:
    import importlib
    import pkgutil

    import agent

    for module in pkgutil.walk_packages(agent.__path__, "agent."):
        if not module.name.startswith("agent.archive.migrations") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_everything()
    _request: dict[str, Any] | None = None
    try:
        _serve(socket.socket(fileno=int(sys.argv[1])))
    except _Child as _child:
        _request = _child.request
    if _request is not None:
        os.environ.clear()
        os.environ.update(_request["env"])
        os.chdir(_request["cwd"])
        sys.argv = ["backroom", *_request["arguments"]]
        from agent.cli.main import main

        sys.exit(main())
