"""The book of requests and standing permissions: answers, expiry, several processes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from agent.home import Home
from agent.operations import requests
from agent.operations.errors import OperationError
from agent.operations.requests import NoSuchRequest, Request, RequestOver, Requests
from agent.operations.workspace import utc_now
from certs.roster import Role
from certs.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).ensure()


def ask(home: Home, key: str = "t-1", **options: str) -> Request:
    known = {"business_id": "b1", "business": "Restaurant ABC", **options}
    return Requests(home).ask("push", key, "node-a", "laptop-a", "wants it", plan={"plan": "digest"}, **known)


def age(home: Home, request: Request, by: timedelta) -> None:
    path = home.state / "requests" / f"{request.id}.json"
    value = json.loads(path.read_text())
    for name in ("created", "expires"):
        value[name] = (utc_now() - by + (requests.LIFETIME if name == "expires" else timedelta())).isoformat()
    path.write_text(json.dumps(value))


def test_the_same_matter_is_one_request(home: Home) -> None:
    first = ask(home)
    assert ask(home) == first
    assert ask(home, "t-2").id != first.id
    assert {each.id for each in Requests(home).all()} == {first.id, ask(home, "t-2").id}


def test_another_process_reads_the_answer_and_it_is_given_once(home: Home) -> None:
    asked = ask(home)
    Requests(home).answer(asked.id.upper(), yes=True)
    seen = Requests(home).about("t-1")
    assert seen is not None
    assert (seen.state, seen.plan) == (requests.APPROVED, {"plan": "digest"})
    for yes in (True, False):
        with pytest.raises(RequestOver):
            Requests(home).answer(asked.id, yes=yes)
    with pytest.raises(NoSuchRequest):
        Requests(home).answer("zzzzz", yes=True)


def test_an_old_request_expires_and_is_forgotten_later(home: Home) -> None:
    asked = ask(home)
    age(home, asked, requests.LIFETIME + timedelta(minutes=1))
    with pytest.raises(RequestOver):
        Requests(home).answer(asked.id, yes=True)
    assert [each.state for each in Requests(home).all()] == [requests.EXPIRED]
    assert ask(home).id != asked.id
    age(home, asked, requests.KEPT + timedelta(days=1))
    assert asked.id not in [each.id for each in Requests(home).all()]


def test_a_no_holds_for_as_long_as_the_request_would_have(home: Home) -> None:
    asked = ask(home)
    Requests(home).answer(asked.id, yes=False)
    assert ask(home).id == asked.id
    age(home, asked, requests.LIFETIME + timedelta(minutes=1))
    assert ask(home).state == requests.WAITING


def test_what_is_done_may_be_asked_again(home: Home) -> None:
    asked = ask(home)
    Requests(home).answer(asked.id, yes=True)
    Requests(home).close(asked.id, requests.DONE, "applied")
    assert ask(home).id != asked.id


def test_permissions_are_for_one_device_business_and_mode(home: Home) -> None:
    book = Requests(home)
    book.permit(ask(home), requests.BUNDLE)
    book.permit(ask(home), requests.BUNDLE)
    book.permit(ask(home, "t-2", business_id="b2", business="Other"), requests.BUNDLE)
    assert len(book.permissions()) == 2
    assert book.permitted("node-a", "b1", "bundle")
    for node, business, mode in (("node-b", "b1", "bundle"), ("node-a", "b3", "bundle"), ("node-a", "b1", "newer")):
        assert not book.permitted(node, business, mode)
    assert book.forbid("node-a", "Restaurant ABC") == 1
    assert book.forbid("node-a") == 1
    assert book.permissions() == ()
    renewal = book.ask("renewal", "r", "node-a", "laptop-a", "asks")
    with pytest.raises(OperationError):
        book.permit(renewal, requests.BUNDLE)


def test_always_said_to_what_is_over_permits_nothing(home: Home) -> None:
    book = Requests(home)
    declined, expired = ask(home), ask(home, "t-2")
    book.answer(declined.id, yes=False)
    age(home, expired, requests.LIFETIME + timedelta(minutes=1))
    for over in (declined, expired):
        with pytest.raises(RequestOver):
            book.answer(over.id, yes=True, always=requests.BUNDLE)
    renewal = book.ask("renewal", "r", "node-a", "laptop-a", "asks")
    with pytest.raises(OperationError, match="for good"):
        book.answer(renewal.id, yes=True, always=requests.BUNDLE)
    assert book.get(renewal.id).state == requests.WAITING
    book.answer(ask(home, "t-3").id, yes=False, always=requests.BUNDLE)
    assert book.permissions() == ()
    assert book.answer(ask(home, "t-4").id, yes=True, always=requests.BUNDLE).state == requests.APPROVED
    assert book.permitted("node-a", "b1", "bundle")


@pytest.mark.parametrize("noted", [True, False])
def test_a_permission_ends_with_its_device_and_does_not_come_back_with_it(home: Home, noted: bool) -> None:
    """Also one of an older version, which did not note when the device had been admitted."""
    moments = [utc_now() - timedelta(hours=1)]
    store = Store(home.path, clock=lambda: moments[-1])
    store.load_or_create_identity("laptop-office")
    store.create_shop("Corner Shop")
    joiner = Store(home.path / "other")
    joiner.load_or_create_identity("laptop-a")
    key, node = joiner.identity().public_key, joiner.identity().node_id
    store.issue("laptop-a", key, Role.MEMBER)
    book = Requests(home)

    def permit() -> None:
        asked = book.ask("push", "t-1", node, "laptop-a", "wants it", business_id="b1", business="ABC")
        book.permit(asked, requests.BUNDLE)
        if not noted:
            path = home.state / "permissions.json"
            path.write_text(json.dumps([{**each, "admitted": ""} for each in json.loads(path.read_text())]))

    permit()
    store.change(node, label="by the door")
    assert book.permitted(node, "b1", "bundle")
    store.revoke(node)
    assert (book.permitted(node, "b1", "bundle"), book.permissions()) == (False, ())
    moments.append(utc_now() + timedelta(seconds=5))
    store.issue("laptop-a", key, Role.MEMBER)
    assert (book.permitted(node, "b1", "bundle"), book.permissions()) == (False, ())
    if noted:
        permit()
        assert book.permitted(node, "b1", "bundle")


def test_a_damaged_request_is_left_out(home: Home) -> None:
    asked = ask(home)
    for text in ("", "[]", '{"id": 1}'):
        (home.state / "requests" / "wrong.json").write_text(text)
        assert [each.id for each in Requests(home).all()] == [asked.id]
