"""The roster: changes, signatures, and which of two is believed."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import keys
from certs.authority import Authority
from certs.errors import (
    AmbiguousDevice,
    BadSignature,
    LastAdmin,
    Malformed,
    RevokedDevice,
    RosterConflict,
    RosterRollback,
    TrustError,
    UnknownDevice,
    WrongNode,
    WrongShop,
)
from certs.identity import Identity
from certs.members import LAST_SECOND
from certs.roster import MAX_MEMBERS, Member, Role, Roster, SignedRoster, Status
from certs.tls import check_peer

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AUTHORITY = Authority.create(NOW)
ADMIN = Identity.create("admin", NOW)
FINANCE = Identity.create("finance", NOW)
STRANGER = Identity.create("stranger", NOW)


def entry(identity: Identity, role: Role = Role.MEMBER, status: Status = Status.ACTIVE, name: str = "") -> Member:
    return Member(identity.node_id, name or identity.name, role, status, NOW)


@pytest.fixture
def roster() -> Roster:
    return Roster(AUTHORITY.shop_id, "Corner Shop", 2, NOW, (entry(ADMIN, Role.ADMIN), entry(FINANCE)))


names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20).map(lambda text: "n" + text)
members = st.builds(
    Member,
    node_id=st.integers().map(lambda number: keys.node_id_of_key(str(number).encode())),
    name=names.map(lambda name: unicodedata.normalize("NFC", name)),
    role=st.sampled_from(Role),
    status=st.sampled_from(Status),
    added=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
        lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
    ),
    replaces=st.none() | st.just(ADMIN.node_id),
)


@given(many=st.lists(members, max_size=8, unique_by=lambda member: member.node_id), version=st.integers(1, 2**60))
def test_a_signed_roster_comes_back_equal(many: list[Member], version: int) -> None:
    roster = Roster(AUTHORITY.shop_id, "Corner Shop", version, NOW, tuple(many))
    signed = AUTHORITY.sign_roster(roster)
    assert SignedRoster.verify(signed.encode(), AUTHORITY.shop_id) == signed
    assert signed.roster == roster


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_changed_bit_is_believed(roster: Roster) -> None:
    data = AUTHORITY.sign_roster(roster).encode()
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(TrustError):
            SignedRoster.verify(bytes(changed), AUTHORITY.shop_id)


@given(data=st.binary(max_size=300))
def test_noise_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        SignedRoster.verify(data, AUTHORITY.shop_id)


def test_trust_is_for_active_members(roster: Roster) -> None:
    assert roster.trusts(FINANCE.node_id)
    revoked = roster.revoke(FINANCE.node_id, NOW)
    assert not revoked.trusts(FINANCE.node_id)
    assert not roster.trusts(STRANGER.node_id)
    assert revoked.version == roster.version + 1
    assert roster.trusts(FINANCE.node_id), "the former value is unchanged"


def test_check_peer_has_an_error_for_each_case(roster: Roster) -> None:
    assert check_peer(roster, FINANCE.node_id).name == "finance"
    assert check_peer(roster, FINANCE.node_id, FINANCE.node_id).name == "finance"
    with pytest.raises(UnknownDevice, match=STRANGER.short_id):
        check_peer(roster, STRANGER.node_id)
    with pytest.raises(RevokedDevice, match="finance"):
        check_peer(roster.revoke(FINANCE.node_id, NOW), FINANCE.node_id)
    with pytest.raises(WrongNode, match=r"belongs to finance .* not to admin"):
        check_peer(roster, FINANCE.node_id, ADMIN.node_id)
    with pytest.raises(WrongNode, match=f"not to {STRANGER.short_id}"):
        check_peer(roster, FINANCE.node_id, STRANGER.node_id)


def test_the_last_admin_stays(roster: Roster) -> None:
    with pytest.raises(LastAdmin):
        roster.revoke(ADMIN.node_id, NOW)
    two = roster.admit(entry(FINANCE, Role.ADMIN))
    assert not two.revoke(ADMIN.node_id, NOW).trusts(ADMIN.node_id)


def test_revoking_twice_changes_nothing(roster: Roster) -> None:
    once = roster.revoke(FINANCE.node_id, NOW)
    assert once.revoke(FINANCE.node_id, NOW) is once
    with pytest.raises(UnknownDevice):
        roster.revoke(STRANGER.node_id, NOW)


def test_a_revoked_device_can_be_admitted_again(roster: Roster) -> None:
    back = roster.revoke(FINANCE.node_id, NOW).admit(entry(FINANCE, name="finance-new"))
    assert [member.name for member in back] == ["admin", "finance-new"]
    assert back.trusts(FINANCE.node_id)
    assert back.version == roster.version + 2


def test_find_by_what_people_type(roster: Roster) -> None:
    assert roster.find(" FINANCE ").node_id == FINANCE.node_id
    assert roster.find(FINANCE.short_id).node_id == FINANCE.node_id
    assert roster.find(FINANCE.node_id).node_id == FINANCE.node_id
    with pytest.raises(UnknownDevice):
        roster.find("finan")


def test_find_prefers_active_devices_and_lists_candidates(roster: Roster) -> None:
    twins = roster.admit(entry(STRANGER, name="Finance"))
    with pytest.raises(AmbiguousDevice, match=STRANGER.short_id):
        twins.find("finance")
    assert twins.revoke(STRANGER.node_id, NOW).find("finance").node_id == FINANCE.node_id
    assert roster.revoke(FINANCE.node_id, NOW).find("finance").status is Status.REVOKED


def test_the_higher_version_wins(roster: Roster) -> None:
    held = AUTHORITY.sign_roster(roster)
    newer = AUTHORITY.sign_roster(roster.revoke(FINANCE.node_id, NOW))
    assert held.accept(newer.encode()) == newer
    assert newer.accept(newer.encode()) is newer
    with pytest.raises(RosterRollback, match="version 2 was offered, version 3 is held"):
        newer.accept(held.encode())


def test_two_rosters_of_one_version_are_a_conflict(roster: Roster) -> None:
    held = AUTHORITY.sign_roster(roster.admit(entry(STRANGER)))
    with pytest.raises(RosterConflict):
        held.accept(AUTHORITY.sign_roster(roster.revoke(FINANCE.node_id, NOW)).encode())


@given(order=st.permutations(range(6)))
def test_any_order_of_arrival_ends_at_the_newest(order: list[int]) -> None:
    roster = Roster(AUTHORITY.shop_id, "Corner Shop", 1, NOW, (entry(ADMIN, Role.ADMIN),))
    versions = [roster]
    for number in range(5):
        versions.append(versions[-1].admit(entry(FINANCE, name=f"finance-{number}")))
    signed = [AUTHORITY.sign_roster(each) for each in versions]
    held = signed[0]
    for index in order:
        try:
            held = held.accept(signed[index].encode())
        except RosterRollback:
            assert signed[index].roster.version < held.roster.version
    assert held == signed[-1]


def test_a_roster_of_another_shop(roster: Roster) -> None:
    other = Authority.create(NOW)
    held = AUTHORITY.sign_roster(roster)
    with pytest.raises(WrongShop):
        held.accept(other.sign_roster(Roster(other.shop_id, "Other", 9, NOW, ())).encode())
    with pytest.raises(WrongShop):
        held.accept(other.sign_roster(Roster(AUTHORITY.shop_id, "Corner Shop", 9, NOW, ())).encode())
    with pytest.raises(WrongShop):
        SignedRoster.verify(AUTHORITY.sign_roster(Roster(other.shop_id, "x", 1, NOW, ())).encode(), AUTHORITY.shop_id)


def test_a_member_cannot_sign(roster: Roster) -> None:
    body = roster.revoke(FINANCE.node_id, NOW).encode()
    signature = FINANCE.sign(b"backroom roster 1\x00" + body)
    outer = {"format": 1, "body": body, "authority": AUTHORITY.certificate}
    outer |= {"handovers": [], "signature": signature}
    with pytest.raises(BadSignature):
        SignedRoster.verify(msgpack.packb(outer), AUTHORITY.shop_id)


def signed_body(body: dict[str, Any]) -> bytes:
    packed = msgpack.packb(body)
    signature = keys.sign(AUTHORITY.private_key, b"backroom roster 1\x00" + packed)
    outer = {"format": 1, "body": packed, "authority": AUTHORITY.certificate}
    outer |= {"handovers": [], "signature": signature}
    encoded: bytes = msgpack.packb(outer)
    return encoded


def body_of(roster: Roster) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(roster.encode())
    return body


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": "2"},
        {"version": True},
        {"issued": 10**17},
        {"issued": -(10**17)},
        {"issued": -1},
        {"issued": LAST_SECOND + 1},
        {"members": {}},
        {"members": [1]},
        {"members": [{}]},
        {"extra": 1},
        {"shop_name": "a\nb"},
    ],
)
def test_signed_nonsense_is_refused(roster: Roster, change: dict[str, Any]) -> None:
    """Even the authority's own signature does not make an impossible roster believed."""
    with pytest.raises(TrustError):
        SignedRoster.verify(signed_body(body_of(roster) | change), AUTHORITY.shop_id)


@pytest.mark.parametrize(
    "change", [{"role": "king"}, {"status": "gone"}, {"name": ""}, {"added": 1.5}, {"replaces": 1}]
)
def test_signed_nonsense_in_an_entry_is_refused(roster: Roster, change: dict[str, Any]) -> None:
    body = body_of(roster)
    body["members"][0] |= change
    with pytest.raises(TrustError):
        SignedRoster.verify(signed_body(body), AUTHORITY.shop_id)


def test_a_device_listed_twice_is_refused(roster: Roster) -> None:
    body = body_of(roster)
    body["members"] *= 2
    with pytest.raises(Malformed, match="twice"):
        SignedRoster.verify(signed_body(body), AUTHORITY.shop_id)


def test_the_last_time_that_a_roster_can_tell(roster: Roster) -> None:
    read = SignedRoster.verify(signed_body(body_of(roster) | {"issued": LAST_SECOND}), AUTHORITY.shop_id)
    assert read.roster.issued == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_a_field_that_stands_twice_is_refused(roster: Roster) -> None:
    """Readers take the first or the last of two: signed bytes must mean one thing."""
    packed = roster.encode()
    twice = bytes([packed[0] + 1]) + packed[1:] + msgpack.packb("version") + msgpack.packb(9)
    assert msgpack.unpackb(twice)["version"] == 9
    with pytest.raises(Malformed, match="decoded"):
        Roster.decode(twice)


def test_too_many_members_are_refused(roster: Roster) -> None:
    body = body_of(roster)
    body["members"] = [body["members"][0] | {"node_id": f"node-{n}"} for n in range(MAX_MEMBERS + 1)]
    with pytest.raises(Malformed, match="too many"):
        SignedRoster.verify(signed_body(body), AUTHORITY.shop_id)


def test_another_format_is_named(roster: Roster) -> None:
    outer = msgpack.unpackb(AUTHORITY.sign_roster(roster).encode()) | {"format": 2}
    with pytest.raises(Malformed, match="format 2"):
        SignedRoster.verify(msgpack.packb(outer), AUTHORITY.shop_id)


def test_times_are_kept_to_the_second(roster: Roster) -> None:
    later = roster.revoke(FINANCE.node_id, NOW + timedelta(seconds=1, microseconds=5))
    assert AUTHORITY.sign_roster(later).roster == later
