"""Classifying tables that no catalogue lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.tables.catalogue import Origin, TableClass, TableRule, load_catalogue
from agent.tables.errors import BadCatalogue, NoBusinesses
from agent.tables.infer import Classification, classify, target_of
from agent.tables.schema import Column, Schema, Table
from agent.tables.scope import scope_rules
from tests.support.tables import schema, table

ORDERS = table("business_orders", "id! businessId!", "businessId -> businesses.id")
CATEGORIES = table("business_categories", "id! businessId", "businessId -> businesses.id")
REGISTRY = table("device_registry", "id! lastThing", "lastThing -> things.id")


def rule_of(name: str, *tables: Table, user: str | None = None) -> TableRule:
    return classify(schema(*tables), load_catalogue(user)).rule(name)


def test_a_business_id_that_is_a_foreign_key() -> None:
    rule = rule_of("cards", table("cards", "id! businessId!", "businessId -> businesses.id"))
    assert (rule.table_class, rule.origin) == (TableClass.BUSINESS, Origin.INFERRED)
    assert (rule.travels_with, dict(rule.references), rule.why) == (("businessId",), {}, "it has businessId")


@pytest.mark.parametrize("column", ["businessId", "business_id"])
def test_a_business_id_without_a_foreign_key(column: str) -> None:
    rule = rule_of("cards", table("cards", f"id! {column}!"))
    assert rule.travels_with == (column,)
    assert dict(rule.references) == {column: "businesses"}


def test_a_business_id_may_be_another_kind_of_text_but_not_a_number() -> None:
    assert rule_of("cards", table("cards", "id! businessId:varchar!")).table_class is TableClass.UNCLASSIFIED
    wide = Table("cards", "public", (Column("id", "text", True), Column("businessId", "character varying(36)")))
    assert rule_of("cards", wide).travels_with == ("businessId",)
    number = rule_of("cards", table("cards", "id! businessId:integer!"))
    assert number.table_class is TableClass.UNCLASSIFIED


def test_a_business_id_that_refers_to_another_table_says_nothing() -> None:
    other = table("chains", "id!")
    rule = rule_of("cards", other, table("cards", "id! businessId!", "businessId -> chains.id"))
    assert rule.table_class is TableClass.UNCLASSIFIED


def test_where_the_business_may_be_missing_required_parents_come_second() -> None:
    cards = table(
        "cards",
        "id! userId! businessId orderId! noteId",
        "businessId -> businesses.id",
        "orderId -> business_orders.id",
        "userId -> users.id",
        "noteId -> business_orders.id",
    )
    assert rule_of("cards", ORDERS, cards).travels_with == ("businessId", "userId", "orderId")


def test_one_foreign_key_to_businesses_by_any_name() -> None:
    rule = rule_of("cards", table("cards", "id! shop!", "shop -> businesses.id"))
    assert (rule.travels_with, rule.why) == (("shop",), "it refers to businesses by shop")


def test_one_that_may_be_missing_leaves_the_required_parent() -> None:
    moves = table("moves", "id! orderId! toShop", "toShop -> businesses.id", "orderId -> business_orders.id")
    assert rule_of("moves", ORDERS, moves).travels_with == ("toShop", "orderId")


def test_two_owners() -> None:
    loans = table("loans", "id! lender! borrower", "borrower -> businesses.id", "lender -> businesses.id")
    rule = rule_of("loans", loans)
    assert (rule.owners, rule.travels_with) == (("lender", "borrower"), ())


def test_two_owners_that_may_both_be_missing_and_a_required_parent() -> None:
    loans = table(
        "loans", "id! a b orderId!", "a -> businesses.id", "b -> businesses.id", "orderId -> business_orders.id"
    )
    assert rule_of("loans", ORDERS, loans).owners == ("a", "b", "orderId")


def test_a_required_parent_that_travels_over_several_tables() -> None:
    deep = table("deep", "id! itemId!", "itemId -> items.id")
    items = table("items", "id! orderId!", "orderId -> business_orders.id")
    rule = rule_of("deep", deep, items, ORDERS)
    assert (rule.travels_with, rule.why) == (("itemId",), "it belongs to items by itemId")


def test_a_parent_that_may_be_missing_says_nothing() -> None:
    rule = rule_of("notes", ORDERS, table("notes", "id! orderId", "orderId -> business_orders.id"))
    assert (rule.table_class, rule.origin) == (TableClass.UNCLASSIFIED, Origin.NONE)
    assert rule.why == "nothing it requires belongs to a business"


@pytest.mark.parametrize(
    "parent",
    [
        table("users", "id!"),
        CATEGORIES,
        table("permissions", "id!"),
        table("sync_nodes", "id!"),
        table("chat_rooms", "id!"),
    ],
    ids=lambda parent: parent.name,
)
def test_a_parent_that_belongs_to_no_business_says_nothing(parent: Table) -> None:
    rule = rule_of("notes", parent, table("notes", "id! of!", f"of -> {parent.name}.id"))
    assert rule.table_class is TableClass.UNCLASSIFIED


def test_a_parent_by_several_columns_is_not_inferred_but_named() -> None:
    rule = rule_of("notes", ORDERS, table("notes", "id! a! b!", "a+b -> business_orders.businessId+id"))
    assert rule.table_class is TableClass.UNCLASSIFIED


def test_nothing_at_all() -> None:
    rule = rule_of("notes", table("notes", "id! text"))
    assert (rule.table_class, rule.why) == (TableClass.UNCLASSIFIED, "nothing connects it to a business")


def test_a_table_that_a_device_table_refers_to_is_left_alone() -> None:
    rule = rule_of("things", REGISTRY, table("things", "id!"))
    assert rule.table_class is TableClass.UNCLASSIFIED
    assert rule.why == "the device table device_registry refers to it"
    cards = table("cards", "id! businessId! thing", "businessId -> businesses.id", "thing -> things.id")
    assert rule_of("things", REGISTRY, table("things", "id!"), cards).table_class is TableClass.UNCLASSIFIED


def test_a_table_that_says_its_business_belongs_to_it_also_where_a_device_refers_to_it() -> None:
    things = table("things", "id! businessId!", "businessId -> businesses.id")
    assert rule_of("things", REGISTRY, things).travels_with == ("businessId",)


def test_what_business_rows_refer_to_comes_where_needed() -> None:
    cards = table("cards", "id! businessId! kind", "businessId -> businesses.id", "kind -> kinds.id")
    kinds = table("kinds", "id! family", "family -> families.id")
    rule = rule_of("kinds", cards, kinds, table("families", "id!"))
    assert (rule.table_class, rule.shared, rule.why) == (TableClass.BUSINESS, True, "cards refers to it by kind")
    assert rule_of("families", cards, kinds, table("families", "id!")).table_class is TableClass.BUSINESS


def test_what_business_rows_refer_to_still_belongs_where_it_says_so() -> None:
    cards = table("cards", "id! businessId! refund", "businessId -> businesses.id", "refund -> refunds.id")
    refunds = table("refunds", "id! orderId", "orderId -> business_orders.id")
    assert rule_of("refunds", ORDERS, cards, refunds).travels_with == ("orderId",)


def test_columns_that_this_database_lacks_are_left_out() -> None:
    rule = rule_of(
        "vehicle_trips",
        table("vehicles", "id! businessId!", "businessId -> businesses.id"),
        table("vehicle_trips", "id! vehicleId!", "vehicleId -> vehicles.id"),
    )
    assert (rule.travels_with, rule.origin) == (("vehicleId",), Origin.CATALOGUE)


def test_a_known_table_whose_columns_of_belonging_are_renamed_is_inferred_anew() -> None:
    orders = table("business_orders", "id! shopId!", "shopId -> businesses.id")
    rule = rule_of("business_orders", orders)
    assert (rule.travels_with, rule.origin) == (("shopId",), Origin.INFERRED)
    assert (rule.name, rule.group) == ("businessOrders", "Customers & Orders")
    loose = rule_of("business_orders", table("business_orders", "id! businessId!"))
    assert dict(loose.references) == {"businessId": "businesses"}


def test_a_known_table_that_lost_its_way_never_passes_for_shared() -> None:
    items = table("business_order_items", "id! thing", "thing -> business_orders.id")
    refer = table("cards", "id! businessId! item", "businessId -> businesses.id", "item -> business_order_items.id")
    rule = rule_of("business_order_items", ORDERS, items, refer)
    assert rule.table_class is TableClass.UNCLASSIFIED
    assert rule.why == "it should travel with orderId, which this database does not have or which refers to nothing"


def test_common_tables_may_lose_theirs() -> None:
    rule = rule_of("business_categories", table("business_categories", "id! name"))
    assert (rule.table_class, rule.travels_with) == (TableClass.BUSINESS, ())


def test_the_users_file_with_a_column_that_is_not_there_is_named() -> None:
    rule = rule_of(
        "cards",
        table("cards", "id! of", "of -> users.id"),
        user='[[group]]\nclass = "business"\n[group.tables]\ncards = { travels_with = ["offf"] }',
    )
    assert rule.table_class is TableClass.UNCLASSIFIED
    assert "offf" in rule.why


def test_circles_are_opened_where_inferred() -> None:
    a = table("a", "id! businessId b!", "businessId -> businesses.id", "b -> b.id")
    b = table("b", "id! businessId a!", "businessId -> businesses.id", "a -> a.id")
    rules = classify(schema(a, b), load_catalogue()).rules
    assert (rules["a"].travels_with, rules["b"].travels_with) == (("businessId",), ("businessId", "a"))


def test_circles_in_the_users_file_are_refused() -> None:
    text = '[[group]]\nclass = "business"\n[group.tables]\ntree = { travels_with = ["businessId", "parentId"] }'
    tree = table("tree", "id! businessId parentId", "businessId -> businesses.id", "parentId -> tree.id")
    with pytest.raises(BadCatalogue, match="by parentId of table tree, tables travel with each other in a circle"):
        rule_of("tree", tree, user=text)


def test_a_database_without_businesses() -> None:
    with pytest.raises(NoBusinesses, match="no table 'businesses'"):
        classify(Schema({"users": table("users", "id!")}), load_catalogue())


def test_another_table_may_hold_the_businesses() -> None:
    classification = classify(
        schema(table("shops", "id!"), table("cards", "id! shop!", "shop -> shops.id")),
        load_catalogue('businesses = "shops"'),
    )
    assert classification.rule("shops").table_class is TableClass.BUSINESS
    assert classification.rule("cards").travels_with == ("shop",)


def test_the_timestamp_of_a_table() -> None:
    classification: Classification = classify(schema(), load_catalogue())
    dated = Table("a", "public", (Column("updated_at", "timestamp(3) without time zone"),))
    assert classification.timestamp(dated) == "updated_at"
    assert classification.timestamp(Table("a", "public", (Column("updatedAt", "text"),))) is None


def test_where_a_column_points() -> None:
    rule = TableRule("a", "a", TableClass.BUSINESS, Origin.USER, references={"loose": "pairs", "by": "users"})
    tables = schema(table("pairs", "a! b!", key="a+b"))
    subject = table("a", "id! loose by both", "both -> users.email")
    assert target_of(subject, "both", rule, tables) == ("users", "email")
    assert target_of(subject, "by", rule, tables) == ("users", "id")
    assert target_of(subject, "loose", rule, tables) is None
    assert target_of(subject, "gone", rule, tables) is None


def test_every_table_has_a_rule_and_the_order_of_tables_does_not_matter() -> None:
    tables = [ORDERS, CATEGORIES, table("x", "id! y", "y -> y.id"), table("y", "id! x", "x -> x.id")]
    one = classify(schema(*tables), load_catalogue())
    other = classify(schema(*reversed(tables)), load_catalogue())
    assert dict(one.rules) == dict(other.rules)
    assert set(one.rules) == set(schema(*tables).tables)
    assert replace(one, rules={}) == replace(other, rules={})
    assert scope_rules(schema(*tables), one).tables == ("business_categories", "business_orders", "businesses", "users")


def test_what_tools_note_about_one_database_never_travels() -> None:
    """Prisma's list of migrations is in every database of the platform: no data, and nothing to warn about."""
    rule = rule_of("_prisma_migrations", table("_prisma_migrations", "id! migration_name!"))
    assert (rule.table_class, rule.origin) == (TableClass.TRANSIENT, Origin.CATALOGUE)
    mine = rule_of("typeorm_metadata", table("typeorm_metadata", "id!"), user='never = ["typeorm_metadata"]')
    assert mine.table_class is TableClass.TRANSIENT
