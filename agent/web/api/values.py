"""Values of the operations as JSON: the same shapes as the commands' ``--json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp import web


def encoded(value: Any) -> str:
    """``value`` as JSON text: times in ISO form with Z, paths and enums as text."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Path():
            return str(value)
        case Enum():
            return value.value
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return sorted(value)
        case bytes():
            return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer that nobody may keep."""
    return web.Response(
        text=encoded(value), status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
