"""Which edges a backup follows."""

from __future__ import annotations

from agent.tables.catalogue import load_catalogue
from agent.tables.infer import classify
from agent.tables.schema import Table
from agent.tables.scope import NeedEdge, ScopeRules, TravelEdge, need_edges, scope_rules, travel_edges
from tests.support.tables import schema, table

USER = '[[group]]\nclass = "business"\n[group.tables]\n'


def rules_of(*tables: Table, user: str | None = None) -> ScopeRules:
    made = schema(*tables)
    return scope_rules(made, classify(made, load_catalogue(user)))


def test_a_travel_edge_holds_where_those_before_it_are_not_set() -> None:
    trips = table(
        "vehicle_trips", "id! businessId vehicleId!", "businessId -> businesses.id", "vehicleId -> vehicles.id"
    )
    vehicles = table("vehicles", "id! businessId!", "businessId -> businesses.id")
    assert [edge for edge in rules_of(trips, vehicles).travels if edge.child == "vehicle_trips"] == [
        TravelEdge("vehicle_trips", "businessId", "businesses", "id"),
        TravelEdge("vehicle_trips", "vehicleId", "vehicles", "id", unset=("businessId",)),
    ]


def test_a_column_that_leads_to_a_device_table_decides_nothing() -> None:
    made = schema(
        table("sync_nodes", "id!"),
        table("business_orders", "id! businessId!", "businessId -> businesses.id"),
        table(
            "cards",
            "id! businessId node! orderId!",
            "businessId -> businesses.id",
            "node -> sync_nodes.id",
            "orderId -> business_orders.id",
        ),
    )
    edges = travel_edges("cards", made, classify(made, load_catalogue()))
    assert [(edge.column, edge.unset) for edge in edges] == [("businessId", ()), ("orderId", ("businessId",))]


def test_owners_are_equal() -> None:
    loans = table(
        "inter_business_loans",
        "id! lenderBusinessId! borrowerBusinessId!",
        "lenderBusinessId -> businesses.id",
        "borrowerBusinessId -> businesses.id",
    )
    assert [(edge.column, edge.equal, edge.unset) for edge in rules_of(loans).travels] == [
        ("lenderBusinessId", True, ()),
        ("borrowerBusinessId", True, ()),
    ]


def test_needs_are_foreign_keys_and_declared_references() -> None:
    orders = table(
        "business_orders",
        "id! businessId! by at! no!",
        "businessId -> businesses.id",
        "at+no -> places.at+no",
    )
    places = table("places", "at! no!", key="at+no")
    user = (
        USER
        + 'business_orders = { travels_with = ["businessId"], references = { by = "users", businessId = "users" } }'
    )
    made = schema(orders, places)
    edges = need_edges("business_orders", made, classify(made, load_catalogue(user)))
    assert edges == (
        NeedEdge("business_orders", ("businessId",), "businesses", ("id",), declared=True, required=True),
        NeedEdge("business_orders", ("at", "no"), "places", ("at", "no"), declared=True, required=True),
        NeedEdge("business_orders", ("by",), "users", ("id",), declared=False, required=False),
    )
    assert str(edges[1]) == "business_orders.at+no -> places"


def test_a_declared_reference_must_be_comparable() -> None:
    user = USER + 'cards = { references = { number = "users", wide = "users", pair = "places" } }'
    cards = table("cards", "id! number:integer wide:character_varying(9) pair")
    made = schema(cards, table("places", "at! no!", key="at+no"))
    assert need_edges("cards", made, classify(made, load_catalogue(user))) == ()


def test_references_into_other_classes_lead_outside() -> None:
    printers = table("network_printers", "id! nodeId!", "nodeId -> sync_nodes.nodeId")
    rules = rules_of(printers, table("sync_nodes", "id! nodeId!"))
    assert [str(edge) for edge in rules.outside] == ["network_printers.nodeId -> sync_nodes"]
    assert "sync_nodes" not in rules.tables


def test_whole_tables() -> None:
    rules = rules_of(table("permissions", "id!"), table("notes", "id!"))
    assert rules.whole == ("permissions",)
    assert "notes" not in rules.tables
