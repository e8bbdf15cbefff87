"""A bad network between two processes: relays TCP, counts, and cuts or holds connections after so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from types import TracebackType


class Relay:
    """Relays to 127.0.0.1:``target``. Use as ``with Relay(port, cuts=[...]) as relay``.

    Connections are cut, one after another, whenever ``cuts[0]`` bytes have gone upstream in one connection; the
    entry is used up. ``back_cuts`` counts the answers. ``hold`` stops relaying upstream after so many bytes of one
    connection, until ``release``.
    """

    def __init__(
        self, target: int, *, cuts: Sequence[int] = (), back_cuts: Sequence[int] = (), hold: int | None = None
    ) -> None:
        self.target = target
        self.cuts = list(cuts)
        self.back_cuts = list(back_cuts)
        self.held = threading.Event()
        self._hold = hold
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        self.cut()

    def release(self) -> None:
        """Let go on what is held, and hold nothing more."""
        self._hold = None
        self._released.set()

    def cut(self) -> None:
        """Cut everything that is open."""
        for each in tuple(self._open):
            _cut(each)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5)
                far.settimeout(None)
            except OSError:
                _cut(near)
                continue
            self._open |= {near, far}
            threading.Thread(target=self._copy, args=(near, far, self.cuts, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, self.back_cuts, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, cuts: list[int], upstream: bool) -> None:
        passed = 0
        try:
            while data := source.recv(16384):
                passed += len(data)
                if cuts and passed > cuts[0]:
                    del cuts[0]
                    break
                if upstream and self._hold is not None and passed > self._hold:
                    self.held.set()
                    self._released.wait()
                target.sendall(data)
        except OSError:
            pass
        _cut(source)
        _cut(target)
        self._open -= {source, target}


def _cut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
