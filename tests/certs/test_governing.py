"""What an admin changes: limits and labels, a second holder of the authority, the authority rolled over, renewals."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import msgpack
import pytest

from certs import certificates, keys
from certs.authority import Authority, Membership
from certs.errors import (
    BadCertificate,
    BadName,
    BadSignature,
    CertificateNotYetValid,
    ExpiredCertificate,
    ForeignAuthority,
    LastAdmin,
    Malformed,
    NotAdmin,
    RevokedDevice,
    RosterRollback,
    TooManyHandovers,
    TrustError,
    UnknownDevice,
    WrongKit,
    WrongShop,
)
from certs.handover import MAX_HANDOVERS, Handover
from certs.members import MAX_LIMIT
from certs.roster import Limits, Right, Role, SignedRoster
from certs.store import Store
from certs.tls import client_context, peer_node_id
from tests.certs.conftest import Clock, MakeStore, enrol
from tests.certs.test_store import PowerCut, cut_after
from tests.certs.test_tls import ask, dialled, serving


def node(store: Store) -> str:
    return store.identity().node_id


def follow(*stores: Store, source: Store) -> None:
    for store in stores:
        store.save_roster(source.signed_roster().encode())


async def meet(client: Store, server: Store) -> None:
    """The client reaches the server over TLS, and both know who the other is."""
    async with serving(server) as listening:
        answer, tls_object = await ask(listening.port, client_context(client), dialled(server))
    assert (answer, listening.refused) == ("hello", [])
    assert listening.met == [server.roster().require(node(client)).name]
    assert peer_node_id(tls_object) == node(server)


def test_limits_and_labels_are_the_authoritys_word(admin: Store, member: Store) -> None:
    limits = Limits(take=frozenset({"b2", "b1"}), give=frozenset())
    before = admin.roster().version
    changed = admin.change(node(member), label=" Front desk ", limits=limits)
    assert changed.version == before + 1
    follow(member, source=admin)
    seen = member.roster().require(node(member))
    assert (seen.label, seen.limits) == ("Front desk", limits)
    assert admin.change(node(member), label="Front desk").version == changed.version
    with pytest.raises(NotAdmin):
        member.change(node(member), limits=Limits())


@pytest.mark.parametrize(
    ("limits", "right", "business", "allowed"),
    [
        (Limits(), Right.OFFER, "b1", True),
        (Limits(), Right.GIVE, None, True),
        (Limits(offer=frozenset({"b1"})), Right.OFFER, "b1", True),
        (Limits(offer=frozenset({"b1"})), Right.OFFER, "b2", False),
        (Limits(offer=frozenset({"b1"})), Right.TAKE, "b2", True),
        (Limits(give=frozenset({"b1"})), Right.GIVE, None, False),
        (Limits(take=frozenset()), Right.TAKE, "b1", False),
    ],
)
def test_what_limits_allow(limits: Limits, right: Right, business: str | None, allowed: bool) -> None:
    assert limits.allows(right, business) is allowed


@pytest.mark.parametrize(
    "change",
    [
        {"may_offer": "b1"},
        {"may_offer": [1]},
        {"may_take": ["b2", "b1"]},
        {"may_take": ["b1", "b1"]},
        {"may_give": [""]},
        {"may_give": [f"b{number:04}" for number in range(MAX_LIMIT + 1)]},
        {"label": "two\nlines"},
        {"cleared": -1},
    ],
)
def test_signed_nonsense_about_limits_is_refused(admin: Store, change: dict[str, object]) -> None:
    authority = admin.require_authority()
    body = msgpack.unpackb(admin.roster().encode())
    body["members"][0] |= change
    packed = msgpack.packb(body)
    outer = msgpack.unpackb(admin.signed_roster().encode())
    outer |= {"body": packed, "signature": keys.sign(authority.private_key, b"backroom roster 1\x00" + packed)}
    with pytest.raises((Malformed, BadName)):
        SignedRoster.verify(msgpack.packb(outer), authority.shop_id)


def test_joining_again_frees_nobody_of_limits(admin: Store, member: Store) -> None:
    limits = Limits(take=frozenset({"b-1"}), give=frozenset())
    admin.change(node(member), label="front desk", limits=limits, cleared=True)
    enrol(admin, member)
    again = member.roster().require(node(member))
    assert (again.label, again.limits, again.cleared) == ("front desk", limits, 1)
    admin.revoke(node(member))
    enrol(admin, member)
    back = member.roster().require(node(member))
    assert (back.label, back.limits) == ("front desk", limits)
    assert back.cleared == 2, "an alarm from before the revocation must not stand again"


def test_the_last_admin_is_not_made_a_member(admin: Store, member: Store) -> None:
    with pytest.raises(LastAdmin):
        admin.change(node(admin), role=Role.MEMBER)
    admin.change(node(member), role=Role.ADMIN)
    assert admin.change(node(admin), role=Role.MEMBER).require(node(admin)).role is Role.MEMBER


def test_what_is_revoked_or_unknown_is_not_changed(admin: Store, member: Store, make_store: MakeStore) -> None:
    admin.revoke(node(member))
    with pytest.raises(RevokedDevice):
        admin.change(node(member), label="x")
    with pytest.raises(UnknownDevice):
        admin.change(node(make_store("stranger")), label="x")


def test_a_device_that_replaces_another_puts_it_out_at_once(admin: Store, member: Store, make_store: MakeStore) -> None:
    fresh = make_store("laptop-finance-new")
    identity = fresh.identity()
    fresh.join_result(admin.issue(identity.name, identity.public_key, Role.MEMBER, replaces=node(member)))
    roster = fresh.roster()
    assert roster.require(node(fresh)).replaces == node(member)
    with pytest.raises(RevokedDevice):
        roster.require(node(member))
    with pytest.raises(LastAdmin):
        admin.issue("thief", make_store("thief").identity().public_key, Role.MEMBER, replaces=node(admin))


# Sharing the authority.


def test_a_second_admin_can_govern_when_the_first_is_gone(admin: Store, make_store: MakeStore) -> None:
    second = enrol(admin, make_store("laptop-second"), Role.ADMIN)
    with pytest.raises(NotAdmin):
        second.revoke(node(admin))
    second.take_authority(admin.authority_key())
    assert second.require_shop().holds_authority
    assert not second.revoke(node(admin)).trusts(node(admin))


def test_the_authority_is_for_admins_of_this_shop(admin: Store, member: Store, make_store: MakeStore) -> None:
    with pytest.raises(NotAdmin):
        member.take_authority(admin.authority_key())
    second = enrol(admin, make_store("laptop-second"), Role.ADMIN)
    elsewhere = make_store("elsewhere")
    elsewhere.create_shop("Other Shop")
    with pytest.raises(WrongKit):
        second.take_authority(elsewhere.authority_key())
    assert second.authority() is None


# Rolling over.


async def test_all_devices_follow_a_new_authority(admin: Store, member: Store, make_store: MakeStore) -> None:
    away = enrol(admin, make_store("laptop-away"))
    follow(member, source=admin)
    shop = admin.require_shop()
    old = admin.require_authority()
    admin.roll_over()
    after = admin.require_shop()
    assert (after.shop_id, after.holds_authority) == (shop.shop_id, True)
    assert after.authority != shop.authority
    assert certificates.check_device(after.certificate, after.authority) == node(admin)

    follow(member, source=admin)
    member.take_certificate(admin.renew(member.identity().public_key))
    # The laptop that was away knows the old authority only, and is let in with its old certificate.
    for client, server in ((away, member), (member, away), (away, admin), (admin, away)):
        await meet(client, server)
    follow(away, source=member)
    away.take_certificate(admin.renew(away.identity().public_key))
    for client, server in ((away, member), (member, away)):
        await meet(client, server)

    # Whoever holds the old key leads nobody anywhere.
    thief = old.sign_roster(replace(admin.roster(), version=admin.roster().version + 10))
    for store in (admin, member, away):
        with pytest.raises(RosterRollback):
            store.save_roster(thief.encode())
    fork = old.successor(admin.clock())
    with pytest.raises(ForeignAuthority):
        member.save_roster(fork.sign_roster(replace(admin.roster(), version=99)).encode())
    with pytest.raises(WrongShop):
        member.take_certificate(old.issue(member.identity().public_key, member.clock()))


async def test_the_authority_is_rolled_over_twice_while_a_laptop_is_away(admin: Store, member: Store) -> None:
    admin.roll_over()
    admin.roll_over()
    await meet(member, admin)
    await meet(admin, member)
    follow(member, source=admin)
    assert member.roster() == admin.roster()


def test_a_laptop_joins_after_the_authority_was_rolled_over(admin: Store, make_store: MakeStore) -> None:
    admin.roll_over()
    late = enrol(admin, make_store("late"))
    assert late.require_shop().shop_id == admin.require_shop().shop_id
    other = admin.issue("x", make_store("x").identity().public_key, Role.MEMBER)
    former = late.signed_roster().authorities[1]
    with pytest.raises(TrustError):
        make_store("y").join_result(Membership(other.certificate, former, other.roster))


def test_the_key_that_was_handed_over_is_put_away(admin: Store, make_store: MakeStore) -> None:
    second = enrol(admin, make_store("second"), Role.ADMIN)
    second.take_authority(admin.authority_key())
    admin.roll_over()
    follow(second, source=admin)
    assert second.authority() is None
    assert not second.require_shop().holds_authority
    with pytest.raises(NotAdmin):
        second.revoke(node(admin))
    second.take_authority(admin.authority_key())
    assert second.change(node(second), label="second").version > admin.roster().version


def test_a_handover_needs_both_keys(admin: Store, clock: Clock) -> None:
    old, stranger = admin.require_authority(), Authority.create(clock.now)
    following = old.successor(clock.now)
    (real,) = following.handovers
    forged = replace(real, by_old=real.by_new), replace(real, by_new=real.by_old), replace(real, cross=old.certificate)
    roster = admin.roster().sealed_anew(clock.now)
    for handover in forged:
        signed = SignedRoster.sign(roster, following.private_key, following.certificate, (handover,))
        with pytest.raises((BadSignature, BadCertificate)):
            SignedRoster.verify(signed.encode(), old.shop_id)
    usurper = certificates.make_authority(stranger.private_key, clock.now, old.shop_id)
    own = Handover.make(stranger.private_key, usurper, following.private_key, following.certificate, clock.now)
    for handovers in ((), (own,)):
        authority = Authority(following.private_key, following.certificate, handovers)
        with pytest.raises(WrongShop):
            SignedRoster.verify(authority.sign_roster(roster).encode(), old.shop_id)


def test_the_authority_is_not_rolled_over_more_often_than_a_roster_can_tell(admin: Store, clock: Clock) -> None:
    authority = admin.require_authority()
    for _ in range(MAX_HANDOVERS):
        authority = authority.successor(clock.now)
    last = authority.sign_roster(admin.roster().sealed_anew(clock.now)).encode()
    assert len(SignedRoster.verify(last, authority.shop_id).handovers) == MAX_HANDOVERS
    with pytest.raises(TooManyHandovers):
        authority.successor(clock.now)


@pytest.mark.parametrize("steps", range(12))
def test_a_power_cut_while_the_authority_is_rolled_over(
    admin: Store, member: Store, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Whenever it happens, the laptop can go on governing, and the others follow."""
    with monkeypatch.context() as cut, suppress(PowerCut):
        cut_after(cut, steps)
        admin.roll_over()
    after = Store(admin._identity.parent, admin.clock)
    after.change(node(member), label="still here")
    follow(member, source=after)
    assert member.roster().require(node(member)).label == "still here"
    after.roll_over()


# Renewing.


def test_a_renewed_certificate_has_the_same_key_and_lasts_longer(admin: Store, member: Store, clock: Clock) -> None:
    before = member.identity()
    clock.forward(days=600)
    member.take_certificate(admin.renew(before.public_key))
    after = member.identity()
    assert after.node_id == before.node_id
    assert certificates.expires(after.certificate) > certificates.expires(before.certificate)
    member.take_certificate(before.certificate)
    assert member.identity().certificate == after.certificate
    with pytest.raises(WrongKit):
        member.take_certificate(admin.identity().certificate)


def test_an_ended_certificate_is_renewed_for_active_devices_only(
    admin: Store, member: Store, make_store: MakeStore, clock: Clock
) -> None:
    clock.forward(days=800)
    with pytest.raises(ExpiredCertificate):
        certificates.check_dates(member.identity().certificate, clock.now)
    member.take_certificate(admin.renew(member.identity().public_key))
    certificates.check_dates(member.identity().certificate, clock.now)
    admin.revoke(node(member))
    with pytest.raises(RevokedDevice):
        admin.renew(member.identity().public_key)
    with pytest.raises(UnknownDevice):
        admin.renew(make_store("stranger").identity().public_key)
    with pytest.raises(NotAdmin):
        member.renew(member.identity().public_key)


def joined_by_a_clock_ahead(admin: Store, make_store: MakeStore, clock: Clock) -> Store:
    clock.forward(days=365)
    early = enrol(admin, make_store("early"))
    clock.forward(days=-365)
    return early


def test_a_certificate_made_by_a_clock_that_was_ahead_gives_way_to_one_that_holds_now(
    admin: Store, make_store: MakeStore, clock: Clock
) -> None:
    early = joined_by_a_clock_ahead(admin, make_store, clock)
    before = early.identity().certificate
    with pytest.raises(CertificateNotYetValid):
        certificates.check_dates(before, clock.now)
    renewed = admin.renew(early.identity().public_key)
    assert early.take_certificate(renewed)
    certificates.check_dates(early.identity().certificate, clock.now)
    # The rule stays: of two that hold, or that both do not hold, the one that ends later.
    clock.forward(days=400)
    assert early.take_certificate(before)
    assert not early.take_certificate(renewed)
    clock.forward(days=-400)
    assert not early.take_certificate(certificates_of(admin, early, clock, days=100))


def certificates_of(admin: Store, store: Store, clock: Clock, days: int) -> bytes:
    """A certificate made by a clock so many days ahead."""
    clock.forward(days=days)
    made = admin.renew(store.identity().public_key)
    clock.forward(days=-days)
    return made
