"""Two laptops for faults: the office has a shop of some size, the sales laptop the business as it was before."""

from __future__ import annotations

import pytest

from tests.faults.pair import BUSINESS, Pair
from tests.support.agent_fixtures import module_shops, shops
from tests.support.agents import Shops

__all__ = ["module_shops", "shops"]


@pytest.fixture(scope="module")
def pair(module_shops: Shops) -> Pair:
    """Both in a shop, no agent running, the business pushed once."""
    office = module_shops.laptop("laptop-office-001", module_shops.large_database(400))
    sales = module_shops.laptop("laptop-sales-002")
    module_shops.shop(office, sales)
    made = Pair(office, sales)
    with made.agent():
        office.do("push", BUSINESS, sales.name)
    return made
