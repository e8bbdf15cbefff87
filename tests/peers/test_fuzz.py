"""The peer server under garbage, for half a minute (``scripts/fuzz_peer.py`` does it for as long as wanted)."""

from __future__ import annotations

import random
from pathlib import Path

from scripts.fuzz_peer import Fuzz

SECONDS = 20


async def test_garbage_is_refused_logged_and_leaves_nothing_behind(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    thrown = await Fuzz(tmp_path, random.Random(seed)).run(SECONDS)
    assert len(thrown) == 6
    assert sum(thrown.values()) > 200
