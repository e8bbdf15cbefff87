"""``backroom doctor`` on real laptops: nothing where all is well, and the cause where it is not."""

from __future__ import annotations

import socket
from typing import Any

from tests.support.agents import NO_MDNS, Laptop, Shops

# Loopback alone: what it says about this machine's own network is tested in tests/lan.
ABOUT_NETWORK = {"no-network", "no-multicast", "nobody-announced"}


def findings(laptop: Laptop, *arguments: str) -> dict[str, dict[str, Any]]:
    answer = laptop.cli("doctor", "--wait", "3", *arguments, env=NO_MDNS)
    value = answer.value
    assert answer.code == (0 if value["well"] else 1)
    assert value["well"] == (not value["findings"])
    assert all(each["message"].endswith(".") and each["hint"] for each in value["findings"])
    return {each["code"]: each for each in value["findings"] if each["code"] not in ABOUT_NETWORK}


def test_well_and_not(shops: Shops) -> None:
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    alone = findings(office)
    assert set(alone) == {"agent-not-running", "no-shop"}

    shops.shop(office, sales)
    with office.running() as here, sales.running() as there:
        office.knows(there.port)
        sales.knows(here.port)
        assert findings(office) == {}
        assert findings(sales, office.name) == {}

        sales.execute('ALTER TABLE business_customers RENAME COLUMN "email" TO "mail"')
        sales.execute('CREATE TABLE "whatIsThis" (id text PRIMARY KEY)')
        office.execute("REVOKE INSERT, UPDATE ON business_orders FROM PUBLIC, CURRENT_USER")
        found = findings(office)
        assert set(found) == {"schema-there", "schema-here", "database-rights"}
        assert "business_customers.email" in found["schema-there"]["message"]
        assert "INSERT, UPDATE in business_orders" in found["database-rights"]["message"]
        found = findings(sales)
        assert set(found) == {"schema-there", "schema-here", "unclassified"}
        assert "whatIsThis" in found["unclassified"]["message"]

    assert set(findings(office)) == {"agent-not-running", "agent-away", "database-rights"}
    office.knows()
    assert set(findings(office, sales.name)) == {"agent-not-running", "not-seen", "database-rights"}
    office.store.revoke(sales.node_id)
    assert "revoked" in findings(office, sales.name)
    assert "revoked" not in findings(office)
    sales.store.save_roster(office.store.signed_roster().encode())
    assert "revoked" in findings(sales)


def test_a_port_that_another_program_has(shops: Shops) -> None:
    from agent.config import change
    from agent.home import Home

    office = shops.laptop("laptop-office-001")
    with socket.create_server(("", 0)) as taken:
        change(Home(office.home), port=taken.getsockname()[1])
        assert "port-taken" in findings(office)
