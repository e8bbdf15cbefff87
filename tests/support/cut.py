"""A network that breaks: a TCP relay that cuts every connection once so many bytes have passed, until it is healed."""

from __future__ import annotations

import asyncio


class Cut:
    """Relays to ``127.0.0.1:target``. ``after`` counts the bytes of all connections from now on."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.cuts = 0
        self._left: int | None = None
        self._towards = True
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def after(self, passed: int, *, towards: bool = True) -> None:
        """Cut everything after this many more bytes towards the server, or from it."""
        self._left, self._towards = passed, towards

    def heal(self) -> None:
        self._left = None

    async def __aenter__(self) -> Cut:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._drop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _drop(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._left is not None and self._left <= 0:
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(up_writer)
            try:
                await asyncio.gather(
                    self._copy(reader, up_writer, towards=True), self._copy(up_reader, writer, towards=False)
                )
            finally:
                up_writer.transport.abort()
                self._writers.discard(up_writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, towards: bool) -> None:
        while data := await reader.read(65536):
            if towards is self._towards and self._left is not None:
                self._left -= len(data)
                if self._left <= 0:
                    self.cuts += 1
                    self._drop()
                    return
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
