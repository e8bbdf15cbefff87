"""Peer messages: what goes out comes back equal, and everything else is refused with a sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MessageError, ProtocolError
from protocol.messages import Hello, Offer, OfferAnswer, Problem, Progress, Receipt, SignedReceipt
from protocol.requests import (
    BusinessItem,
    BusinessList,
    CompareRequest,
    PullAnswer,
    PullRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    SchemaAnswer,
    TableDigest,
    TableMark,
    Whereabouts,
)
from protocol.trusting import BackupItem, BackupList, RenewalAnswer, SharedAuthority

NOW = datetime(2026, 1, 1, 15, 30, 45, 123456, UTC)
PROBLEM = Problem("no-space", "The disk is full.", "Make room.")
SIGNED = SignedReceipt(b"body", b"certificate", b"signature")
EXAMPLES: list[Any] = [
    Hello("node-a", "laptop-ä", "backroom 0.1", "linux", (1, 2), 7, NOW),
    PROBLEM,
    SIGNED,
    Receipt("b", "node-a", "laptop", "applied", {"orders": {"inserted": 3}}, {"inserted": 3}, "", NOW),
    Offer(b"manifest", 1 << 40, b"x" * 32, "bundle"),
    Offer(b"manifest", 0),
    OfferAnswer("accept", "t-1", 5),
    OfferAnswer("refuse", "t-1", problem=PROBLEM),
    OfferAnswer("done", "t-1", 9, receipt=SIGNED),
    Progress("t-1", "applying", 5, 5, 1, 2, "orders"),
    Progress("t-1", "failed", problem=PROBLEM),
    PullRequest("business-specific", "abc", True, False, "bundle"),
    PullRequest("full-device"),
    PullAnswer("p-1", "ready", 1, 2, "x", "bundle", 10, '"bundle"', None),
    Hello("node-a", "laptop", "backroom 0.1", "linux", (1,), 7, NOW, "instance", {"node-b": 2}),
    RenewalAnswer("renewed", b"certificate"),
    RenewalAnswer("waiting", text="request abc on laptop-admin"),
    SharedAuthority(b"sealed"),
    BackupList((BackupItem("b", "full", "node-a", NOW, 5, 6), BackupItem("c", "full-device", "node-a", NOW, 5, 6))),
    BackupList((BackupItem("b", "business-specific", "node-a", NOW, 5, 6, "b1", "Restaurant ABC"),)),
    BusinessList((BusinessItem("1", "A", None, True), BusinessItem("2", "B", "b"))),
    TableMark("epoch", "counts"),
    CompareRequest("b", {"orders": ("id", "name"), "users": ()}, {"orders": ("total",)}, "s1"),
    TableDigest("orders", 3, b"d" * 32, ("id",), ("text",), ("id",)),
    RangeRequest("b", "orders", ("id",), ("id",), ("total",), (0, 63), "s1"),
    RangeDigests((0, 4095), (1, 2), (b"1:2", b"3:4")),
    Whereabouts({"node-a": ("192.168.1.2:47600",)}),
    SchemaAnswer({"orders": {"id": "text"}}),
    RowHashRequest("b", "orders", ("id",), ("id",), (), (4095,), ("(1)",), "s1"),
    RowHashes(("1", "2"), (b"a" * 16, b"b" * 16)),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(message: Any) -> None:
    assert type(message).decode(message.encode()) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_missing_an_unknown_and_a_mistyped_field_are_refused(message: Any) -> None:
    kind = type(message)
    fields = msgpack.unpackb(message.encode())
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(MessageError, match=f"lacks the field '{name}'"):
            kind.decode(msgpack.packb(less))
        wrongs: tuple[object, ...] = (True, 1, "text", b"bytes", [], {})
        for wrong in wrongs:
            if type(wrong) is type(fields[name]) or fields[name] is None:
                continue
            with pytest.raises(MessageError):
                kind.decode(msgpack.packb({**fields, name: wrong}))
    if kind is not Hello:
        with pytest.raises(MessageError, match="unknown field 'extra'"):
            kind.decode(msgpack.packb({**fields, "extra": 1}))


@pytest.mark.parametrize(
    ("message", "field", "value", "words"),
    [
        (EXAMPLES[1], "message", "x" * 2001, "2001 characters"),
        (EXAMPLES[4], "sha256", b"x" * 33, "33 bytes"),
        (EXAMPLES[4], "size", 1 << 43, "is allowed"),
        (EXAMPLES[4], "mode", "mirror", "allowed are"),
        (EXAMPLES[6], "status", "maybe", "allowed are"),
        (EXAMPLES[0], "versions", list(range(101)), "101 items"),
        (EXAMPLES[-1], "keys", ["1"], "1 keys but 2 hashes"),
        (EXAMPLES[-2], "ranges", [4096], "is allowed"),
        (EXAMPLES[-5], "places", [1, 1], "twice"),
        (EXAMPLES[-6], "within", [64], "is allowed"),
        (EXAMPLES[-7], "types", [], "0 types"),
        (EXAMPLES[-1], "keys", ["1"] * 2001, "2001 items"),
        (EXAMPLES[3], "tables", {"t": {"a" * 201: 1}}, "more than 200 characters"),
        (EXAMPLES[3], "at", (1 << 62) - 1, "is allowed"),
    ],
)
def test_bounds(message: Any, field: str, value: object, words: str) -> None:
    fields = msgpack.unpackb(message.encode())
    with pytest.raises(MessageError, match=words):
        type(message).decode(msgpack.packb({**fields, field: value}))


def test_a_newer_hello_may_say_more() -> None:
    fields = msgpack.unpackb(EXAMPLES[0].encode())
    assert Hello.decode(msgpack.packb({**fields, "extra": 1})) == EXAMPLES[0]


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80\x80", b"\x93\x01\x02\x03", b"\x81\xa1a\xd6\xff\0\0\0\0"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageError):
        Problem.decode(data)


def test_a_message_over_its_size_is_not_even_unpacked() -> None:
    with pytest.raises(MessageError, match="bytes; at most"):
        Progress.decode(b"\x81" * (3 << 20))


def test_the_signature_of_a_receipt_covers_nothing_else() -> None:
    receipt = EXAMPLES[3]
    signed = receipt.sign(b"cert", lambda message: b"signed " + message[:20])
    assert signed.signed_part() == b"backroom receipt v1\x00" + receipt.encode()
    assert signed.signature == b"signed backroom receipt v1\x00"


def test_what_is_told_about_an_error_is_bounded() -> None:
    told = Problem.of(ValueError("x" * 9000))
    assert Problem.decode(told.encode()) == told
    assert told.code == "internal"
    assert Problem.of(MessageError("no", hint="do")) == Problem("bad-message", "no", "do")


@given(st.binary(max_size=300))
def test_whatever_the_bytes_only_protocol_errors_escape(data: bytes) -> None:
    for message in EXAMPLES:
        for start in (b"", message.encode()[:20]):
            try:
                type(message).decode(start + data)
            except ProtocolError:
                continue
