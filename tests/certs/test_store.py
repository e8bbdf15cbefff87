"""The store on disk: what it keeps, who may read it, and what a crash or another process does to it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from certs import files
from certs.authority import Authority, Membership
from certs.errors import (
    AlreadyInShop,
    BadCertificate,
    BadName,
    NoIdentity,
    NoShop,
    NotAdmin,
    RevokedDevice,
    RosterRollback,
    StoreDamaged,
    TrustError,
    WrongShop,
)
from certs.identity import verify_signature
from certs.roster import Role
from certs.store import Store

from .conftest import Clock, MakeStore, enrol

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


def home_of(store: Store) -> Path:
    return store._identity.parent


def again(store: Store) -> Store:
    """The same data folder, opened as another process would."""
    return Store(home_of(store), store.clock)


def test_the_identity_is_for_life(make_store: MakeStore) -> None:
    store = make_store("laptop")
    identity = store.identity()
    assert again(store).load_or_create_identity("laptop").node_id == identity.node_id
    assert verify_signature(identity.certificate, identity.sign(b"m"), b"m") == identity.node_id


def test_a_device_can_be_renamed(make_store: MakeStore) -> None:
    store = make_store("laptop")
    node_id = store.identity().node_id
    renamed = store.load_or_create_identity("laptop-new")
    assert (renamed.name, renamed.node_id) == ("laptop-new", node_id)


def test_before_init_there_is_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "empty")
    with pytest.raises(NoIdentity):
        store.identity()
    assert store.shop() is None
    assert store.authority() is None
    for call in (store.require_shop, store.roster, store.signed_roster, store.require_authority, store.tls_files):
        with pytest.raises(NoShop):
            call()
    assert not (tmp_path / "empty").exists()


def test_bad_names_make_no_identity(tmp_path: Path) -> None:
    with pytest.raises(BadName):
        Store(tmp_path).load_or_create_identity("a\nb")
    assert list(tmp_path.iterdir()) == []


@posix
def test_only_the_owner_can_read(admin: Store) -> None:
    for path in home_of(admin).rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


@posix
def test_a_loose_umask_changes_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Store(tmp_path / "home").load_or_create_identity("laptop")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "home/identity/device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home/identity").stat().st_mode) == 0o700


def test_create_shop(admin: Store) -> None:
    shop = admin.require_shop()
    authority = admin.require_authority()
    assert shop.shop_id == authority.shop_id
    assert shop.shop_name == "Corner Shop"
    assert shop.holds_authority
    assert shop.roster.version == 1
    assert [(member.node_id, member.role) for member in shop.roster] == [(admin.identity().node_id, Role.ADMIN)]
    assert admin.identity().certificate == shop.certificate
    with pytest.raises(AlreadyInShop, match="Corner Shop"):
        admin.create_shop("Second Shop")


def test_a_member_holds_no_authority(admin: Store, member: Store) -> None:
    shop = member.require_shop()
    assert not shop.holds_authority
    assert shop.roster == admin.roster()
    with pytest.raises(NotAdmin):
        member.revoke(admin.identity().node_id)
    with pytest.raises(NotAdmin):
        member.issue("x", member.identity().public_key, Role.MEMBER)


def test_another_process_sees_a_revocation_at_once(admin: Store, member: Store) -> None:
    node_id = member.identity().node_id
    running = again(admin)
    assert running.roster().trusts(node_id)
    admin.revoke(node_id)
    assert not running.roster().trusts(node_id)
    assert running.roster() is running.roster(), "an unchanged file is not read again"


def test_rosters_from_peers(admin: Store, member: Store, make_store: MakeStore) -> None:
    old = admin.signed_roster().encode()
    third = enrol(admin, make_store("third"))
    new = admin.signed_roster().encode()
    assert member.save_roster(new).trusts(third.identity().node_id)
    assert member.save_roster(new) == admin.roster()
    with pytest.raises(RosterRollback):
        member.save_roster(old)
    other = make_store("elsewhere")
    other.create_shop("Other Shop")
    with pytest.raises(WrongShop):
        member.save_roster(other.signed_roster().encode())
    assert member.roster() == admin.roster()


def test_joining_checks_all_it_is_given(admin: Store, make_store: MakeStore) -> None:
    store = make_store("laptop")
    key = store.identity().public_key
    good = admin.issue("laptop", key, Role.MEMBER)
    other = admin.issue("other", make_store("other").identity().public_key, Role.MEMBER)
    elsewhere = Authority.create(store.clock())
    foreign = elsewhere.found("Other", "laptop", key, store.clock())
    bad = [
        (Membership(other.certificate, good.authority, good.roster), BadCertificate),
        (Membership(foreign.certificate, good.authority, good.roster), WrongShop),
        (Membership(good.certificate, foreign.authority, good.roster), WrongShop),
        (Membership(good.certificate, good.authority, foreign.roster), WrongShop),
        (Membership(good.certificate, good.certificate, good.roster), BadCertificate),
    ]
    for membership, error in bad:
        with pytest.raises(error):
            store.join_result(membership)
        assert store.shop() is None
    store.join_result(good)
    with pytest.raises(AlreadyInShop):
        store.join_result(foreign)


def test_a_device_that_was_revoked_meanwhile_does_not_join(admin: Store, make_store: MakeStore) -> None:
    store = make_store("laptop")
    membership = admin.issue("laptop", store.identity().public_key, Role.MEMBER)
    admin.revoke(store.identity().node_id)
    late = Membership(membership.certificate, membership.authority, admin.signed_roster().encode())
    with pytest.raises(RevokedDevice):
        store.join_result(late)


def test_a_revoked_device_comes_back_by_a_new_invitation(admin: Store, member: Store, clock: Clock) -> None:
    admin.revoke(member.identity().node_id)
    member.save_roster(admin.signed_roster().encode())
    former = member.identity().certificate
    clock.forward(days=1)
    enrol(admin, member)
    assert member.roster().trusts(member.identity().node_id)
    assert member.identity().certificate != former
    assert admin.roster() == member.roster()


def test_many_writers_lose_nothing(admin: Store, make_store: MakeStore) -> None:
    keys = [make_store(f"laptop-{number}").identity().public_key for number in range(8)]
    errors: list[BaseException] = []

    def issue(number: int) -> None:
        try:
            again(admin).issue(f"laptop-{number}", keys[number], Role.MEMBER)
        except BaseException as error:  # reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=issue, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert admin.roster().version == 9
    assert len(admin.roster().members) == 9


def test_two_processes_make_one_identity(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from certs.store import Store; "
        "print(Store(pathlib.Path(sys.argv[1])).load_or_create_identity('laptop').node_id)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "home")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate(timeout=60)[0] for process in running}
    assert len(printed) == 1
    assert all(process.returncode == 0 for process in running)


class PowerCut(BaseException):
    """Stands for the end of the process: not an Exception, so that no handler tidies up after it."""


def cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the given number of writes and renames happen, then cut the power."""
    left = [steps]

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            if left[0] == 0:
                raise PowerCut
            left[0] -= 1
            real(*arguments)

        return step

    monkeypatch.setattr(files, "write_new", counted(files.write_new))
    monkeypatch.setattr(files, "move", counted(files.move))


@pytest.mark.parametrize("steps", range(7))
def test_a_power_cut_while_the_identity_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    with monkeypatch.context() as cut:
        cut_after(cut, steps)
        try:
            Store(tmp_path).load_or_create_identity("laptop")
        except PowerCut:
            with pytest.raises(NoIdentity):
                Store(tmp_path).identity()
    assert Store(tmp_path).load_or_create_identity("laptop").node_id == Store(tmp_path).identity().node_id
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize("steps", range(6))
def test_a_power_cut_while_a_shop_is_made(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    store = make_store("laptop")
    with monkeypatch.context() as cut:
        cut_after(cut, steps)
        try:
            store.create_shop("Corner Shop")
        except PowerCut:
            assert again(store).shop() is None
            again(store).identity()
    if again(store).shop() is None:
        again(store).create_shop("Corner Shop")
    assert again(store).require_shop().shop_name == "Corner Shop"
    assert not list(home_of(store).rglob("*.new"))


@pytest.mark.parametrize("steps", range(5))
def test_a_power_cut_while_joining_again(
    admin: Store, member: Store, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    identity = member.identity()
    membership = admin.issue(identity.name, identity.public_key, Role.ADMIN)
    with monkeypatch.context() as cut:
        cut_after(cut, steps)
        try:
            member.join_result(membership)
        except PowerCut:
            assert again(member).roster().version in (2, 3)
            again(member).identity()
    again(member).join_result(membership)
    assert again(member).roster().version == 3
    assert not list(home_of(member).rglob("*.new"))


def read_all(store: Store) -> None:
    store.identity()
    store.require_shop()


@pytest.mark.parametrize(
    "path", ["identity/device.key", "identity/name", "shop/device.pem", "shop/authority.pem", "shop/roster"]
)
@pytest.mark.parametrize("content", [b"", b"\xffnonsense", None])
def test_damaged_files_are_named(admin: Store, path: str, content: bytes | None) -> None:
    file = home_of(admin) / path
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(TrustError) as caught:
        read_all(again(admin))
    assert content is None or path == "shop/roster" or file.name in str(caught.value)


def test_a_key_that_was_swapped_is_noticed(admin: Store, member: Store) -> None:
    (home_of(admin) / "identity/device.key").write_bytes((home_of(member) / "identity/device.key").read_bytes())
    with pytest.raises(StoreDamaged, match="does not belong"):
        again(admin).identity()


def test_a_roster_of_another_shop_on_disk_is_noticed(admin: Store, make_store: MakeStore) -> None:
    other = make_store("elsewhere")
    other.create_shop("Other Shop")
    (home_of(admin) / "shop/roster").write_bytes((home_of(other) / "shop/roster").read_bytes())
    with pytest.raises(StoreDamaged, match="another shop"):
        again(admin).roster()
