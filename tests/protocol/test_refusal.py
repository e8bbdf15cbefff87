from __future__ import annotations

import pytest

from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind
from protocol.reader import BundleReader, FrameRead
from protocol.refusal import check_device_state, holds_device_state
from tests.protocol.bundles import events
from tests.vectors.drafts import FINANCE, NODE_ROWS, NODES, OTHER, USER_ROWS, USERS, draft, full, manifest

EVERYTHING = full(USERS, NODES, kind=Kind.FULL_DEVICE)
SENTENCE = (
    "This is a full device backup from a different device (laptop-finance-001). Device-specific data cannot be "
    "restored to a different machine. Use a business or full backup instead."
)


def test_refuses_foreign_device_state_in_the_plans_words() -> None:
    with pytest.raises(ForeignDeviceState) as caught:
        check_device_state(EVERYTHING, OTHER.node_id)
    assert str(caught.value) == SENTENCE
    assert caught.value.code == "foreign-device-state"


def test_refuses_the_kind_even_without_a_device_section() -> None:
    with pytest.raises(ForeignDeviceState):
        check_device_state(full(USERS, kind=Kind.FULL_DEVICE), OTHER.node_id)


def test_own_device_state_and_other_kinds_pass() -> None:
    check_device_state(EVERYTHING, FINANCE.node_id)
    for value in (full(USERS), manifest(USERS)):
        check_device_state(value, OTHER.node_id)
        assert not holds_device_state(value)


def test_restoring_reader_refuses_at_the_manifest() -> None:
    data = draft(EVERYTHING, [(0, USER_ROWS), (1, NODE_ROWS)]).whole()
    reader = BundleReader(accept=lambda found: check_device_state(found, OTHER.node_id))
    with pytest.raises(ForeignDeviceState):
        events(data, reader=reader)
    assert reader.manifest is None


def test_restoring_reader_refuses_again_at_the_first_device_frame() -> None:
    *before, device, seal = draft(EVERYTHING, [(0, USER_ROWS), (1, NODE_ROWS)]).parts()
    reader = BundleReader(own_node=OTHER.node_id)
    assert any(isinstance(event, FrameRead) for event in reader.feed(b"".join(before)))
    with pytest.raises(ForeignDeviceState) as caught:
        reader.feed(device + seal)
    assert str(caught.value) == SENTENCE


def test_own_device_reads_and_any_device_stores() -> None:
    data = draft(EVERYTHING, [(0, USER_ROWS), (1, NODE_ROWS)]).whole()
    assert len(events(data, reader=BundleReader(own_node=FINANCE.node_id))) == 4
    assert len(events(data, reader=BundleReader())) == 4
