"""Bundle files as answers: sealed on their way out unless they were asked for plain."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import hdrs, web
from multidict import istr

from agent.operations.keys import lock_for_leaving
from agent.operations.workspace import Workspace
from agent.reading import size_of
from agent.sealing.age import SUFFIX, Lock, is_sealed
from agent.sealing.stream import Sealer

CHECKSUM = istr("Backroom-Sha256")
_PIECE = 1 << 20


async def lock_for_download(workspace: Workspace, *, plain: bool) -> Lock | None:
    """What a download is sealed with; None where ``plain``. Raises ``NoRecipient``, before anything is made."""
    return await lock_for_leaving(workspace, plain=plain)


async def send_bundle(
    request: web.Request, workspace: Workspace, path: Path, checksum: str | None, lock: Lock | None
) -> tuple[web.StreamResponse, bool]:
    """Answer with the bundle as an attachment, and say whether all of it went out.

    Sealed with ``lock`` while it is read: no copy is made, and the answer has its length, but neither a checksum (age
    has its own) nor ranges (each sealing gives other bytes). Without ``lock`` as it is: a file in pieces, where asked
    for (``Range``), or through the seal of the archive.
    """
    files = workspace.bundle_files
    in_archive_seal = await asyncio.to_thread(is_sealed, path) and await asyncio.to_thread(files.opens, path)
    name = path.name.removesuffix(SUFFIX) if in_archive_seal else path.name
    if lock is None and not in_archive_seal:
        headers = _headers(path.name) | ({CHECKSUM: checksum} if checksum else {})
        whole = web.FileResponse(path, headers=headers)
        await whole.prepare(request)
        return whole, request.method == hdrs.METH_GET and whole.status == 200
    sealer = Sealer(lock) if lock is not None else None
    size = await asyncio.to_thread(size_of, path, files.open)
    response = web.StreamResponse(headers=_headers(name + (SUFFIX if sealer else "")))
    response.content_length = sealer.size_of(size) if sealer else size
    await response.prepare(request)
    if request.method != hdrs.METH_GET:
        return response, False
    file = await asyncio.to_thread(files.open, path)
    try:
        while data := await asyncio.to_thread(file.read, _PIECE):
            await response.write(await asyncio.to_thread(sealer.update, data) if sealer else data)
    finally:
        await asyncio.to_thread(file.close)
    if sealer is not None:
        await response.write(sealer.finish())
    await response.write_eof()
    return response, True


def _headers(name: str) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: "application/octet-stream",
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"',
        hdrs.CACHE_CONTROL: "no-store",
    }
