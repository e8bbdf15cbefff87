"""The recovery kit: this laptop's identity, on an admin's the authority, the keys of sealed backups, in one file."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from agent.config import change
from agent.operations.errors import OperationError
from agent.operations.keys import Ask, recovery_key, shop_recipients
from agent.operations.passphrases import check, opened, sealed
from agent.operations.workspace import Workspace
from agent.sealing.age import Keys, Lock, recipient_of
from agent.sealing.archive_key import ArchiveKey
from agent.sealing.errors import WrongPassphraseError
from agent.sealing.stream import Sealer, open_with, read_sealed
from certs.errors import NoIdentity
from certs.files import move, write_new
from certs.kit import MAX_KIT, Kit
from certs.roster import Roster

MOST = MAX_KIT + 64 * 1024
"""Bound on a sealed kit, in bytes."""


class KitExists(OperationError):
    code = "file-exists"
    hint = "Choose another file; an older kit may be the only one that opens."


class NoKit(OperationError):
    code = "no-such-file"
    hint = "Give the file that `backroom identity export` made."


@dataclass(frozen=True, slots=True)
class KitDone:
    """A kit that was written, or taken. ``recovery`` is the recipient of the recovery key in it, if any; ``archive``
    says that the sealed archive's key is there."""

    file: Path
    made: datetime
    node_id: str
    short_id: str
    name: str
    shop: str | None
    authority: bool
    revoked: bool = False
    recovery: str | None = None
    archive: bool = False

    @classmethod
    def of(cls, file: Path, kit: Kit) -> KitDone:
        roster: Roster | None = kit.roster.roster if kit.roster else None
        return cls(
            file=file,
            made=kit.made,
            node_id=kit.identity.node_id,
            short_id=kit.identity.short_id,
            name=kit.identity.name,
            shop=roster.shop_name if roster else None,
            authority=kit.authority is not None,
            revoked=roster is not None and not roster.trusts(kit.identity.node_id),
            recovery=recipient_of(kit.opens["recovery"]) if "recovery" in kit.opens else None,
            archive="archive" in kit.opens,
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "file": str(self.file),
            "made": self.made,
            "node_id": self.node_id,
            "name": self.name,
            "shop": self.shop,
            "authority": self.authority,
            "recovery": self.recovery,
            "archive": self.archive,
        }


async def export_kit(workspace: Workspace, file: Path, passphrase: str, ask: Ask) -> KitDone:
    """Write the kit to a new file (mode 0600), after proving once that what is in it opens what the shop seals.

    Where nobody is set up yet who could open what leaves this laptop, the recovery key is made, under the kit's
    passphrase. ``ask`` is asked for the recovery key's own passphrase where that is another one.
    Raises ``SealingError``.
    """
    check(passphrase)
    if await asyncio.to_thread(file.exists):
        raise KitExists(f"{file} exists already.")
    kit = await asyncio.to_thread(workspace.store.kit)
    kit = replace(kit, opens=await _keys(workspace, passphrase, ask))

    def work() -> KitDone:
        data = sealed(kit.encode(), passphrase)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            write_new(temporary, data)
            found = Kit.decode(opened(temporary.read_bytes(), passphrase))
            if found.encode() != kit.encode():
                raise OperationError("The recovery kit does not hold what it must.", "Try again, to another disk.")
            _prove(workspace, found)
            move(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        return KitDone.of(file, kit)

    return await asyncio.to_thread(work)


async def _keys(workspace: Workspace, passphrase: str, ask: Ask) -> dict[str, str]:
    """The identities that open this laptop's sealed backups: the recovery key's and the archive's."""
    key = recovery_key(workspace)
    found: dict[str, str] = {}
    if await asyncio.to_thread(key.sealed.exists):
        try:
            found["recovery"] = await asyncio.to_thread(key.identity, passphrase)
        except WrongPassphraseError:
            words = await ask("Passphrase of the recovery key, which is another one")
            found["recovery"] = await asyncio.to_thread(key.identity, words)
    elif not await asyncio.to_thread(shop_recipients, workspace):
        workspace.home.ensure()
        await asyncio.to_thread(key.create, passphrase)
        found["recovery"] = await asyncio.to_thread(key.identity, passphrase)
    archive = await asyncio.to_thread(ArchiveKey(key.folder).identity)
    return {**found, **({"archive": archive} if archive else {})}


def _prove(workspace: Workspace, kit: Kit) -> None:
    """Seal a small file as a backup is sealed, and open it with each key of the kit."""
    probe = secrets.token_bytes(1000)
    for what, identity in kit.opens.items():
        recipients = shop_recipients(workspace) if what == "recovery" else (recipient_of(identity),)
        path = workspace.home.ensure().spool / f"probe-{secrets.token_hex(4)}.age"
        sealer = Sealer(Lock(recipients))
        try:
            path.write_bytes(sealer.update(probe) + sealer.finish())
            with read_sealed(path, open_with(path, Keys((identity,)))) as file:
                good = file.read() == probe
        finally:
            path.unlink(missing_ok=True)
        if not good:
            raise OperationError("The recovery kit's keys do not open what is sealed to them.", "Try again.")


@dataclass(frozen=True, slots=True)
class KitFound:
    """A kit that was opened and not taken yet: what it holds, and the short ID of another device that this laptop is
    now and would be no longer (None: it is that device already, or nobody yet)."""

    kit: Kit = field(repr=False)
    done: KitDone
    instead_of: str | None


async def open_kit(workspace: Workspace, file: Path, data: bytes, passphrase: str) -> KitFound:
    """Open a kit and look whether it fits this laptop; nothing is changed. ``file`` is what it is called.

    Raises ``SealingError``, ``TrustError``, :class:`NoKit`.
    """

    def work() -> KitFound:
        if len(data) > MOST:
            raise NoKit(f"{file} is too large for a recovery kit.")
        kit = Kit.decode(opened(data, passphrase))
        workspace.store.check_kit(kit)
        try:
            present = workspace.store.identity()
        except NoIdentity:
            present = None
        other = present is not None and present.node_id != kit.identity.node_id
        return KitFound(kit, KitDone.of(file, kit), present.short_id if present and other else None)

    return await asyncio.to_thread(work)


async def take_kit(workspace: Workspace, found: KitFound, passphrase: str) -> KitDone:
    """Make this laptop the device of a kit that was opened, with its keys. Raises ``TrustError``.

    A recovery key that is here already stays; one that comes from the kit is sealed with the kit's passphrase.
    """

    def work() -> KitDone:
        kit = found.kit
        workspace.home.ensure()
        workspace.store.take_kit(kit)
        key = recovery_key(workspace)
        if (recovery := kit.opens.get("recovery")) is not None:
            key.take_back(recovery, passphrase)
        if (archive := kit.opens.get("archive")) is not None:
            ArchiveKey(key.folder).keep(archive)
        change(workspace.home, name=kit.identity.name)
        return found.done

    return await asyncio.to_thread(work)


async def import_kit(workspace: Workspace, file: Path, passphrase: str) -> KitDone:
    """Make this laptop the device of the kit in a file, with its keys. Raises what the two above do."""

    def read() -> bytes:
        try:
            with file.open("rb") as source:
                return source.read(MOST + 1)
        except OSError as error:
            raise NoKit(f"{file} cannot be read: {error.strerror}.") from error

    found = await open_kit(workspace, file, await asyncio.to_thread(read), passphrase)
    return await take_kit(workspace, found, passphrase)
