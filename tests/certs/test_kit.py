"""Recovery kits: what is in them comes back, and what does not fit is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from certs import keys
from certs.errors import Malformed, TrustError, WrongKit
from certs.kit import Kit
from certs.roster import Role
from certs.store import Store
from tests.certs.conftest import Clock, MakeStore, enrol


def repaired(tmp_path: Path, clock: Clock, kit: bytes) -> Store:
    store = Store(tmp_path / "repaired", clock)
    store.load_or_create_identity("fresh")
    store.take_kit(Kit.decode(kit))
    return store


def test_an_admins_kit_brings_the_shop_back(admin: Store, member: Store, tmp_path: Path, clock: Clock) -> None:
    again = repaired(tmp_path, clock, admin.kit().encode())
    assert again.identity().node_id == admin.identity().node_id
    assert again.identity().certificate == admin.identity().certificate
    assert not again.revoke(member.identity().node_id).trusts(member.identity().node_id)


def test_keys_of_sealed_backups_come_along_and_kits_from_before_them_are_read(admin: Store) -> None:
    kit = replace(admin.kit(), opens={"recovery": "AGE-SECRET-KEY-1A"})
    assert Kit.decode(kit.encode()).opens == {"recovery": "AGE-SECRET-KEY-1A"}
    before = msgpack.unpackb(admin.kit().encode()) | {"format": 1}
    del before["keys"]
    assert Kit.decode(msgpack.packb(before)).opens == {}
    for wrong in ({"other": "x"}, {"recovery": b"x"}, {"recovery": None}):
        with pytest.raises(Malformed):
            Kit.decode(msgpack.packb({**before, "format": 2, "keys": wrong}))


def test_a_members_kit_holds_no_authority(admin: Store, member: Store, tmp_path: Path, clock: Clock) -> None:
    kit = member.kit()
    assert kit.authority is None
    again = repaired(tmp_path, clock, kit.encode())
    assert again.require_shop().shop_id == admin.require_shop().shop_id
    assert again.authority() is None


def test_a_kit_from_before_the_shop(make_store: MakeStore, tmp_path: Path, clock: Clock) -> None:
    alone = make_store("alone")
    again = repaired(tmp_path, clock, alone.kit().encode())
    assert again.identity().node_id == alone.identity().node_id
    assert again.shop() is None


def test_a_newer_list_of_devices_stays(admin: Store, member: Store) -> None:
    kit = Kit.decode(admin.kit().encode())
    version = admin.change(member.identity().node_id, label="later").version
    admin.take_kit(kit)
    assert admin.roster().version == version


def test_a_kit_from_before_the_authority_was_rolled_over(
    admin: Store, member: Store, tmp_path: Path, clock: Clock
) -> None:
    old = admin.kit().encode()
    admin.roll_over()
    again = repaired(tmp_path, clock, old)
    assert again.authority() is not None
    again.save_roster(admin.signed_roster().encode())
    assert again.authority() is None
    again.take_certificate(admin.renew(again.identity().public_key))
    later = repaired(tmp_path / "later", clock, admin.kit().encode())
    assert later.change(member.identity().node_id, label="x").version > admin.roster().version


def test_another_device_of_a_shop_stays_itself(admin: Store, member: Store, make_store: MakeStore) -> None:
    before = member.identity()
    with pytest.raises(WrongKit):
        member.take_kit(admin.kit())
    elsewhere = make_store("elsewhere")
    with pytest.raises(WrongKit):
        member.take_kit(elsewhere.kit())
    after = member.identity()
    assert (after.node_id, after.certificate) == (before.node_id, before.certificate)


@pytest.mark.parametrize("field", ["key", "certificate", "shop.certificate", "shop.roster", "shop.authority"])
def test_parts_of_another_device_or_shop_are_refused(
    admin: Store, member: Store, make_store: MakeStore, field: str
) -> None:
    other = make_store("other")
    other.create_shop("Other Shop")
    fields, foreign = msgpack.unpackb(admin.kit().encode()), msgpack.unpackb(other.kit().encode())
    if field.startswith("shop."):
        fields["shop"][field[5:]] = foreign["shop"][field[5:]]
    else:
        fields[field] = foreign[field]
    with pytest.raises(TrustError):
        Kit.decode(msgpack.packb(fields))


def test_noise_and_other_formats_are_no_kit(admin: Store) -> None:
    data = admin.kit().encode()
    for wrong in (b"", b"noise", data[:-1], data + b"x", msgpack.packb(msgpack.unpackb(data) | {"format": 3})):
        with pytest.raises(Malformed):
            Kit.decode(wrong)


def test_a_revoked_second_admin_cannot_take_a_shared_authority(admin: Store, make_store: MakeStore) -> None:
    second = enrol(admin, make_store("second"), Role.ADMIN)
    admin.revoke(second.identity().node_id)
    second.save_roster(admin.signed_roster().encode())
    with pytest.raises(TrustError):
        second.take_authority(keys.private_to_pem(admin.require_authority().private_key))
