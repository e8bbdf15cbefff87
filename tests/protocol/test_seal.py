from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadSeal, Malformed, ProtocolError, WrongSigner
from protocol.seal import Seal, verify_seal
from tests.protocol.bundles import verify
from tests.vectors.drafts import FINANCE, ORDER_BLOCKS, ORDERS, draft, manifest, orders

NUMBERS = st.integers(0, 2**64 - 1)
SEALS = st.builds(
    Seal,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.lists(NUMBERS, max_size=20).map(tuple),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=1, max_size=900),
    st.binary(min_size=1, max_size=80),
)


@given(SEALS)
def test_round_trip(seal: Seal) -> None:
    assert Seal.decode(seal.encode()) == seal


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_but_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Seal.decode(data)


def test_seal_of_all_tables_fits_its_limit() -> None:
    seal = Seal(1, 1, 1, 1, (1 << 48,) * 10_000, bytes(32), bytes(16 << 10), bytes(512))
    assert Seal.decode(seal.encode()) == seal
    assert len(seal.encode()) < 256 << 10


def test_message_covers_everything_but_the_signature() -> None:
    seal = orders().seal()
    changes = {
        "frames": 9,
        "rows": 9,
        "raw_bytes": 9,
        "stored_bytes": 9,
        "entry_rows": (9,),
        "digest": bytes(32),
        "certificate": b"c",
        "signature": b"s",
    }
    assert set(changes) == {field.name for field in fields(Seal)}
    message = seal.message(bytes(32))
    assert message.startswith(b"backroom-bundle/1 seal\0")
    same = [name for name, value in changes.items() if replace(seal, **{name: value}).message(bytes(32)) == message]
    assert same == ["signature"]
    assert seal.message(bytes(31) + b"x") != message


def test_holds_for_its_own_manifest_alone() -> None:
    seal = draft(manifest(ORDERS), ORDER_BLOCKS).seal()
    assert verify_seal(manifest(ORDERS), seal, verify) == FINANCE.node_id
    with pytest.raises(BadSeal, match="InvalidSignature") as caught:
        verify_seal(manifest(ORDERS, created_by="someone else"), seal, verify)
    assert caught.value.__cause__ is not None


def test_another_nodes_signature_names_both() -> None:
    with pytest.raises(WrongSigner, match=r"laptop-finance-001 \(node-.*\), but node-else has sealed it"):
        verify_seal(manifest(ORDERS), orders().seal(), lambda *_: "node-else")


@pytest.mark.parametrize("wrong", [True, None, "1", b"1", {}])
def test_totals_are_numbers(wrong: object) -> None:
    with pytest.raises(Malformed):
        Seal.decode(replace(orders().seal(), entry_rows=(wrong,)).encode())  # type: ignore[arg-type]
    with pytest.raises(Malformed):
        Seal.decode(replace(orders().seal(), rows=wrong).encode())  # type: ignore[arg-type]
