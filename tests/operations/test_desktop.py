"""A request that waits is told on the desktop: by the agent, over notify-send and a session bus, to a real daemon."""

from __future__ import annotations

import pytest

from tests.support.agents import Shops, wait_until
from tests.support.desktops import desktop, desktop_reason

BUSINESS = "Restaurant ABC"
OFFICE = r"office <u>& \n &amp;"

pytestmark = pytest.mark.skipif(desktop_reason() is not None, reason=str(desktop_reason()))


def test_a_push_that_waits_for_a_yes_is_shown_with_its_senders_name(
    shops: Shops, tmp_path_factory: pytest.TempPathFactory
) -> None:
    office, sales = shops.laptop(OFFICE, "shop"), shops.laptop("laptop-sales-002", "shop")
    shops.shop(office, sales)
    sales.execute("UPDATE business_customers SET name = 'renamed here', \"updatedAt\" = now() + interval '1 minute'")
    with desktop(tmp_path_factory.mktemp("desktop")) as screen, sales.running(screen.env) as agent:
        office.knows(agent.port)
        pushing = office.start("push", BUSINESS, sales.name, "--conflicts", "bundle")
        title, words = screen.shown()
        assert title == "Backroom"
        assert words.startswith(f"{OFFICE} wants its rows of {BUSINESS} to replace those here.")
        assert "backroom open" in words
        (request,) = wait_until(lambda: sales.do("requests"), what="the request")
        sales.do("decline", request["id"])
        assert pushing.wait(30) == 1
