from __future__ import annotations

from tests.support.agent_fixtures import shops

__all__ = ["shops"]
