"""Strangers at a running agent: refused before any work, each with words of its own in the logs of both sides."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from agent.peers import http
from certs.keys import server_name
from certs.tls import client_context
from tests.support.agents import Agent, Laptop, Shops, wait_until

BUSINESS = "Restaurant ABC"
Scene = tuple[Laptop, Laptop, Laptop, Agent]


@pytest.fixture(scope="module")
def scene(module_shops: Shops) -> Iterator[Scene]:
    """An admin's office, a member that will be revoked, and a laptop whose agent runs."""
    office = module_shops.laptop("laptop-office-001", "shop")
    lost = module_shops.laptop("laptop-lost-002", "shop")
    sales = module_shops.laptop("laptop-sales-003")
    module_shops.shop(office, lost, sales)
    with sales.running() as agent:
        office.knows(agent.port)
        lost.knows(agent.port)
        yield office, lost, sales, agent


@pytest.fixture(autouse=True)
def nothing_is_done(scene: Scene) -> Iterator[None]:
    """Whatever a stranger does: the rows, the spool, the archive and the history stay as they are."""
    _, _, sales, agent = scene
    before = sales.digest(), sales.history()
    seen = len(agent.log())
    yield
    assert (sales.digest(), sales.history()) == before
    assert sales.files("spool") == []
    assert [each["event"] for each in agent.log()[seen:] if each["level"] == "error"] == []


def refusal(agent: Agent, seen: int, words: str) -> dict[str, Any]:
    """The newest refusal in the agent's log that has these words."""

    def look() -> dict[str, Any] | None:
        refusals = [each for each in agent.log()[seen:] if each["event"] == "peer refused"]
        return next((each for each in refusals if words in each["reason"]), None)

    found: dict[str, Any] = wait_until(look, 10, f"a refusal with {words!r}, among {agent.log()[seen:]}")
    assert found["level"] == "warning"
    return found


def ask(port: int, context: ssl.SSLContext, name: str, request: bytes) -> bytes:
    """Send a request over TLS as anyone could; what comes back, if anything."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        tls.settimeout(5)
        tls.sendall(request)
        answer = b""
        while data := tls.recv(65536):
            answer += data
        return answer


def anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_no_certificate(scene: Scene) -> None:
    _, _, sales, agent = scene
    seen = len(agent.log())
    request = b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(agent.port, anyone(), server_name(sales.node_id), request)
    assert refusal(agent, seen, "certificate")["error"] == "no-certificate"


def test_plain_http(scene: Scene) -> None:
    _, _, _, agent = scene
    seen = len(agent.log())
    with socket.create_connection(("127.0.0.1", agent.port), 5) as plain:
        plain.sendall(b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in plain.recv(100)
    refusal(agent, seen, "TLS")


def test_a_laptop_in_no_shop(scene: Scene, shops: Shops) -> None:
    _, _, sales, agent = scene
    stranger = shops.laptop("laptop-stranger-009")
    stranger.knows(agent.port)
    error = stranger.cli("push", BUSINESS, sales.name).error
    assert error["code"] == "no-shop"
    assert "backroom join" in error["hint"]


def test_a_certificate_of_another_shop(scene: Scene, shops: Shops) -> None:
    _, _, _, agent = scene
    seen = len(agent.log())
    other, friend = shops.laptop("laptop-other-001", "shop"), shops.laptop("laptop-friend-002")
    shops.shop(other, friend, name="Another Shop")
    other.knows(agent.port)
    error = other.cli("push", BUSINESS, friend.name).error
    told = refusal(agent, seen, "shop")
    assert error["code"] != "unexpected"
    assert error["hint"]
    assert error["message"] != told["reason"]
    assert "shop" in error["message"]
    assert f'"{error["code"]}"' in other.logs() or error["message"] in other.logs()


def test_a_certificate_of_another_shop_that_does_not_care_who_answers(scene: Scene, shops: Shops) -> None:
    _, _, sales, agent = scene
    seen = len(agent.log())
    other = shops.laptop("laptop-other-001")
    shops.shop(other, name="Another Shop")
    context = client_context(other.store)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(agent.port, context, server_name(sales.node_id), b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refusal(agent, seen, "shop")["error"] == "wrong-shop"


def test_a_right_certificate_at_another_devices_address(scene: Scene) -> None:
    """The office means the lost laptop, but the address belongs to the sales laptop by now."""
    office, lost, _, agent = scene
    seen = len(agent.log())
    error = office.cli("pull", lost.name, "--business", BUSINESS).error
    assert error["code"] in {"wrong-node", "wrong-device"}
    assert "another device" in error["message"]
    refusal(agent, seen, "another device")
    assert error["message"] in office.logs()


def test_a_right_certificate_with_another_nodes_id(scene: Scene) -> None:
    office, lost, sales, agent = scene
    seen = len(agent.log())
    request = f"GET /v1/hello HTTP/1.1\r\nHost: x\r\n{http.NODE_HEADER}: {lost.node_id}\r\nConnection: close\r\n\r\n"
    answer = ask(agent.port, client_context(office.store), server_name(sales.node_id), request.encode())
    assert answer.startswith(b"HTTP/1.1 403")
    told = refusal(agent, seen, lost.name)
    assert told["error"] == "wrong-node"


def test_a_revoked_device(scene: Scene, shops: Shops) -> None:
    office, _, sales, agent = scene
    gone = shops.laptop("laptop-gone-004", "shop")
    joined = office.store.issue(
        gone.name, gone.store.identity().public_key, next(iter(sales.store.roster().members)).role
    )
    gone.store.join_result(joined)
    office.do("devices")  # tells the sales laptop of the new roster, if it does not know yet
    gone.knows(agent.port)
    assert gone.do("devices")
    revoked = office.do("revoke", gone.name, "--yes")
    assert sales.name in revoked["told"]
    seen = len(agent.log())
    error = gone.cli("push", BUSINESS, sales.name).error
    assert "revoked" in refusal(agent, seen, "revoked")["reason"]
    assert error["code"] == "revoked-device"
    assert "revoked" in error["message"]
    assert error["message"] in gone.logs()
