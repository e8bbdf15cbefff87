from __future__ import annotations

from tests.support.agent_fixtures import module_shops, shops

__all__ = ["module_shops", "shops"]
