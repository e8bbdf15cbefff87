"""A command whose backup stops half way until it may go on: ``python -m tests.support.held FOLDER ARGUMENTS...``.

Once it has read some of the rows (which whoever sends the bundle meanwhile has then, too) there is a file ``held`` in
FOLDER; it reads on when there is one called ``go``. All else is the command as it is.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agent.archive import writer
from agent.cli.main import main
from agent.database.export import copy_blocks
from agent.engine import reading

HELD_BYTES = 400_000


def held_at(folder: Path) -> Any:
    """What reads rows, but stops once where so many have been read."""
    read = 0

    async def copy(*arguments: Any) -> AsyncGenerator[bytes, None]:
        nonlocal read
        if read > HELD_BYTES:
            (folder / "held").touch()
            while not (folder / "go").exists():
                await asyncio.sleep(0.02)
        async with aclosing(copy_blocks(*arguments)) as blocks:
            async for block in blocks:
                read += len(block)
                yield block

    return copy


if __name__ == "__main__":
    writer.BUFFER = 1 << 14
    reading.copy_blocks = held_at(Path(sys.argv[1]))  # type: ignore[attr-defined]
    main(sys.argv[2:])
