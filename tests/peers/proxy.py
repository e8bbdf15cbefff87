"""A bad network: a TCP relay that counts bytes and cuts or stalls connections after so many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class Proxy:
    """Relays to ``127.0.0.1:target``.

    Connection number n is cut after ``cut_after[n]`` bytes upstream have passed since the start of that connection
    (an entry of 0 cuts all later ones at once); ``cut_back_after`` counts the other direction; ``stall_after`` stops
    relaying instead.
    """

    def __init__(
        self,
        target: int,
        *,
        cut_after: Sequence[int] = (),
        cut_back_after: Sequence[int] = (),
        stall_after: Sequence[int] = (),
    ) -> None:
        self.target = target
        self.upstream = 0
        self.connections = 0
        self.port = 0
        self.cut = asyncio.Event()
        self._cuts = list(cut_after)
        self._back_cuts = list(cut_back_after)
        self._stalls = list(stall_after)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                return
            try:
                back = asyncio.create_task(self._copy_back(up_reader, writer))
                try:
                    await self._copy_up(reader, up_writer)
                finally:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
            finally:
                up_writer.transport.abort()
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _copy_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            if self._stalls and passed > self._stalls[0]:
                self._stalls.pop(0)
                await asyncio.sleep(60)
            if self._cuts and (self._cuts[0] == 0 or passed > self._cuts[0]):
                if self._cuts[0]:
                    self._cuts.pop(0)
                self.cut.set()
                return
            self.upstream += len(data)
            writer.write(data)
            await writer.drain()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            if self._back_cuts and passed > self._back_cuts[0]:
                self._back_cuts.pop(0)
                self.cut.set()
                break
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
