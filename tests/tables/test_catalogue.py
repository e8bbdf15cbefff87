"""The platform's catalogue, and the user's file over it."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.demo.schema import demo_schema
from agent.tables.catalogue import Origin, TableClass, load_catalogue, plan_name
from agent.tables.errors import BadCatalogue

BUSINESS = '[[group]]\nclass = "business"\n[group.tables]\n'


def test_the_143_tables_of_the_plan_are_classified() -> None:
    catalogue = load_catalogue()
    counted = Counter(rule.table_class for rule in catalogue.rules.values())
    assert counted == {TableClass.BUSINESS: 126, TableClass.DEVICE: 11, TableClass.TRANSIENT: 6}
    assert set(catalogue.rules) == set(demo_schema().tables)
    assert {rule.origin for rule in catalogue.rules.values()} == {Origin.CATALOGUE}


def test_every_column_of_the_catalogue_is_a_column_of_the_platform() -> None:
    tables = demo_schema().tables
    for name, rule in load_catalogue().rules.items():
        named = {
            *rule.travels_with,
            *rule.owners,
            *rule.references,
            *(column for key in rule.same_when or () for column in key),
            *rule.greatest,
        }
        assert named | set(rule.placeholder or ()) <= set(tables[name].columns), name
        assert set(rule.references.values()) <= set(tables), name


def test_every_column_that_rows_travel_with_refers_to_something() -> None:
    for name, rule in load_catalogue().rules.items():
        declared = {reference.columns[0] for reference in demo_schema().tables[name].references}
        assert {*rule.travels_with, *rule.owners} <= declared | set(rule.references), name


def test_names_of_the_plan() -> None:
    catalogue = load_catalogue()
    assert plan_name("business_order_items") == "businessOrderItems"
    assert catalogue.rules["business_orders"].name == "businessOrders"
    assert catalogue.rules["reprint_logs"].name == "reprintLog"
    assert catalogue.rules["mac_acl_entries"].name == "macAclEntry"
    assert catalogue.rules["wifi_usage_analytics"].name == "wiFiUsageAnalytics"
    assert catalogue.rules["esp32_connected_clients"].name == "esp32ConnectedClients"
    names = [rule.name for rule in catalogue.rules.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("sync_nodes", "stays on its laptop; full-device backups only"),
        ("sessions", "never"),
        ("permissions", "whole, with every backup"),
        ("inter_business_loans", "with any of lenderBusinessId, borrowerBusinessId"),
        ("payroll_entries", "with payrollPeriodId, else employeeId"),
        ("business_categories", "with businessId, and where needed"),
        ("users", "where needed"),
        ("audit_logs", "with full backups, and where needed"),
    ],
)
def test_how_a_table_travels_in_words(table: str, words: str) -> None:
    assert load_catalogue().rules[table].describe() == words


def test_the_users_file_goes_over_ours() -> None:
    catalogue = load_catalogue(
        'demo = "demo"\nlabels = ["title"]\ntimestamps = ["changed"]\n'
        + BUSINESS
        + "loyalty_cards = { travels_with = ['customerId'] }\nreprint_logs = { whole = true }\n"
    )
    assert catalogue.rules["loyalty_cards"].origin is Origin.USER
    assert catalogue.rules["loyalty_cards"].travels_with == ("customerId",)
    assert catalogue.rules["reprint_logs"].whole
    assert catalogue.rules["reprint_logs"].travels_with == ()
    assert catalogue.rules["reprint_logs"].name == "reprintLog"
    assert (catalogue.demo, catalogue.labels, catalogue.timestamps) == ("demo", ("title",), ("changed",))
    assert catalogue.businesses == "businesses"
    assert load_catalogue().rules["reprint_logs"].origin is Origin.CATALOGUE


def test_an_empty_file_changes_nothing() -> None:
    assert load_catalogue("") == load_catalogue()


def test_device_and_transient_can_change_places_but_never_become_business() -> None:
    text = '[[group]]\nclass = "transient"\n[group.tables]\noffline_queue = {}\n'
    assert load_catalogue(text).rules["offline_queue"].table_class is TableClass.TRANSIENT
    with pytest.raises(BadCatalogue, match="sync_nodes holds device state of the platform and cannot be made business"):
        load_catalogue(BUSINESS + "sync_nodes = {}")
    with pytest.raises(BadCatalogue, match="users holds business state of the platform and cannot be made device"):
        load_catalogue('[[group]]\nclass = "device"\n[group.tables]\nusers = {}\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group = [", "tables.toml is not valid TOML: "),
        ("colour = 1", "tables.toml has the unknown setting 'colour'"),
        ("businesses = 5", "businesses must be a name"),
        ("demo = ''", "demo must be a name"),
        ("labels = 'name'", "labels must be a list of column names"),
        ("timestamps = [1]", "timestamps must be a list of column names"),
        ("group = 1", r"write groups as \[\[group\]\]"),
        ("group = [1]", r"each \[\[group\]\] needs class = "),
        ("[group]\nclass = 'business'", r"write groups as \[\[group\]\]"),
        ("[[group]]\ntitle = 'mine'", r"each \[\[group\]\] needs class = "),
        ("[[group]]\nclass = 'secret'", r"each \[\[group\]\] needs class = "),
        ("[[group]]\nclass = ['business']", r"each \[\[group\]\] needs class = "),
        ("[[group]]\nclass = 'unclassified'", "leave it out instead"),
        ("[[group]]\nclass = 'business'\n[group.table]\na = {}", r"a \[\[group\]\] has the unknown setting 'table'"),
        ("[[group]]\nclass = 'business'\ntables = 1", r"write the tables of a group under \[group.tables\]"),
        (BUSINESS + "a = 1", "the entry of table a must be a table"),
        (BUSINESS + "a = { colour = 1 }", "table a has the unknown setting 'colour'"),
        (BUSINESS + "a = { whole = 1 }", "whole of table a must be true or false"),
        (BUSINESS + "a = { travels_with = 'b' }", "travels_with of table a must be a list"),
        (BUSINESS + "a = { travels_with = [''] }", "travels_with of table a must be a list of column names"),
        (BUSINESS + "a = { owners = [1] }", "owners of table a must be a list of column names"),
        (BUSINESS + "a = { same_when = ['b'] }", "same_when of table a must be a list of column names"),
        (BUSINESS + "a = { references = { b = 1 } }", "references of table a must name tables"),
        (BUSINESS + "a = { placeholder = { b = [1] } }", "the placeholder of table a may hold"),
        (BUSINESS + "a = { owners = ['b'], travels_with = ['c'] }", "has both travels_with and owners"),
        (BUSINESS + "a = {}\n" + BUSINESS + "a = {}", "table a is listed twice"),
        (BUSINESS + "businesses = { travels_with = ['umbrellaBusinessId'] }", "they travel with nothing"),
    ],
)
def test_what_is_wrong_in_the_users_file_is_named(text: str, message: str) -> None:
    with pytest.raises(BadCatalogue, match=message) as caught:
        load_catalogue(text)
    assert str(caught.value).startswith("tables.toml")
    assert "tables.toml" in caught.value.hint
