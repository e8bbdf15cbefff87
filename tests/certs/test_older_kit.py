"""Two at work on one authority: another process rolls it over meanwhile, an older kit comes back, a fork is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certs import files
from certs.errors import ForeignAuthority, NotAdmin, RosterRollback, StoreDamaged
from certs.governing import MAX_OUTRANKED
from certs.kit import Kit
from certs.roster import Role
from certs.store import Store
from tests.certs.conftest import Clock, MakeStore, enrol


def again(store: Store) -> Store:
    return Store(store._identity.parent, store.clock)


def meanwhile(monkeypatch: pytest.MonkeyPatch, done: Callable[[], object]) -> None:
    """Let another process do something just before this one gets the lock for the first time."""
    real, left = files.locked, [done]

    @contextmanager
    def locked(path: Path) -> Iterator[None]:
        if left:
            left.pop()()
        with real(path):
            yield

    monkeypatch.setattr(files, "locked", locked)


@pytest.mark.parametrize("what", ["revoke", "issue", "renew", "roll over"])
def test_another_process_rolls_the_authority_over_while_this_one_waits(
    admin: Store, member: Store, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    node, joiner = member.identity().node_id, make_store("joiner")
    with monkeypatch.context() as race:
        meanwhile(race, again(admin).roll_over)
        if what == "revoke":
            admin.revoke(node)
        elif what == "issue":
            enrol(admin, joiner)
        elif what == "renew":
            certificate = admin.renew(member.identity().public_key)
        else:
            admin.roll_over()
    after = again(admin)
    assert after.authority() is not None
    assert len(after.signed_roster().handovers) == (2 if what == "roll over" else 1)
    member.save_roster(after.signed_roster().encode())
    assert member.roster() == after.roster()
    assert member.roster().trusts(node) is (what != "revoke")
    if what == "renew":
        assert member.take_certificate(certificate)
    after.kit()
    after.roll_over()


def test_a_kit_leads_out_where_the_authoritys_key_is_damaged(admin: Store, make_store: MakeStore) -> None:
    kit = Kit.decode(admin.kit().encode())
    other = make_store("elsewhere")
    other.create_shop("Other Shop")
    (admin._shop / "authority.key").write_bytes(other.authority_key())
    with pytest.raises(StoreDamaged):
        again(admin).authority()
    again(admin).take_kit(kit)
    assert again(admin).authority() is not None
    again(admin).roll_over()


@pytest.fixture
def stale(admin: Store, make_store: MakeStore, tmp_path: Path, clock: Clock) -> tuple[Store, Store]:
    """The admin's laptop from a kit of version 2, and another laptop of the shop, which is at version 4."""
    peer = enrol(admin, make_store("peer"))
    kit = Kit.decode(admin.kit().encode())
    for name in ("x", "y"):
        enrol(admin, make_store(name), Role.MEMBER)
    peer.save_roster(admin.signed_roster().encode())
    restored = Store(tmp_path / "restored", clock)
    restored.load_or_create_identity("fresh")
    restored.take_kit(kit)
    return restored, peer


@pytest.mark.parametrize("labels", [0, 1])
def test_who_holds_a_higher_version_of_the_former_authority_follows_at_last(
    stale: tuple[Store, Store], labels: int
) -> None:
    """Once the other one's version is higher, once it is the same."""
    restored, peer = stale
    for label in range(labels):
        restored.change(peer.identity().node_id, label=f"label {label}")
    restored.roll_over()
    assert restored.roster().version == peer.roster().version - 1 + labels
    with pytest.raises(RosterRollback):
        restored.save_roster(peer.signed_roster().encode())
    assert restored.roster().version == peer.roster().version + 1
    peer.save_roster(restored.signed_roster().encode())
    assert peer.roster() == restored.roster()
    assert peer.signed_roster().handovers


def test_an_old_key_uses_up_no_versions_and_brings_nobody_in(admin: Store, member: Store, clock: Clock) -> None:
    old = admin.require_authority()
    admin.roll_over()
    member.save_roster(admin.signed_roster().encode())
    held = admin.signed_roster()
    for version in (held.roster.version - 1, MAX_OUTRANKED):
        thief = old.sign_roster(replace(held.roster, version=version)).encode()
        with pytest.raises(RosterRollback):
            admin.save_roster(thief)
        assert admin.signed_roster() == held
    alone = replace(held.roster, version=held.roster.version + 5, members=held.roster.members[:1])
    for store in (member, admin):
        with pytest.raises(RosterRollback):
            store.save_roster(old.sign_roster(alone).encode())
        assert store.roster().members == held.roster.members
    assert member.roster().version == held.roster.version, "who does not hold the key signs nothing"
    with pytest.raises(NotAdmin):
        member.require_authority()
    fork = old.successor(clock.now).sign_roster(replace(alone, version=99)).encode()
    with pytest.raises(ForeignAuthority):
        admin.save_roster(fork)
    assert admin.roster().version == alone.version + 1
