"""What this machine did per second in past runs, by stage of the work: estimates begin with it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping

from agent.home import Home

_FILE = "rates.json"
_MOST = 100


def past_rates(home: Home) -> dict[str, float]:
    """Rows or bytes per second, by stage; empty where nothing is known. Blocking."""
    try:
        found = json.loads((home.state / _FILE).read_text(encoding="utf-8"))
        return {str(name): float(rate) for name, rate in found.items() if math.isfinite(rate) and rate > 0}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep_rates(home: Home, rates: Mapping[str, float]) -> None:
    """Keep them for the next time. They are only estimates: where they cannot be written, that is all. Blocking."""
    temporary = home.state / f".{_FILE}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(dict(list(rates.items())[-_MOST:])), encoding="utf-8")
        temporary.replace(home.state / _FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
