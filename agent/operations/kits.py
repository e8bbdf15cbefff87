"""The recovery kit: this laptop's identity (and on an admin's the authority), sealed with a passphrase, in a file."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.config import change
from agent.operations.errors import OperationError
from agent.operations.passphrases import opened, sealed
from agent.operations.workspace import Workspace
from certs.files import move, write_new
from certs.kit import MAX_KIT, Kit
from certs.roster import Roster

_MOST = MAX_KIT + 64 * 1024


class KitExists(OperationError):
    code = "file-exists"
    hint = "Choose another file; an older kit may be the only one that opens."


class NoKit(OperationError):
    code = "no-such-file"
    hint = "Give the file that `backroom identity export` made."


@dataclass(frozen=True, slots=True)
class KitDone:
    """A kit that was written, or taken."""

    file: Path
    made: datetime
    node_id: str
    short_id: str
    name: str
    shop: str | None
    authority: bool
    revoked: bool = False

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
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "file": str(self.file),
            "made": self.made,
            "node_id": self.node_id,
            "name": self.name,
            "shop": self.shop,
            "authority": self.authority,
        }


async def export_kit(workspace: Workspace, file: Path, passphrase: str) -> KitDone:
    """Write the kit to a new file (mode 0600), after opening once what will be in it. Raises ``SealingError``."""

    def work() -> KitDone:
        if file.exists():
            raise KitExists(f"{file} exists already.")
        kit = workspace.store.kit()
        data = sealed(kit.encode(), passphrase)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            write_new(temporary, data)
            found = Kit.decode(opened(temporary.read_bytes(), passphrase))
            if found.encode() != kit.encode():
                raise OperationError("The recovery kit does not hold what it must.", "Try again, to another disk.")
            move(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        return KitDone.of(file, kit)

    return await asyncio.to_thread(work)


async def import_kit(workspace: Workspace, file: Path, passphrase: str) -> KitDone:
    """Make this laptop the device of the kit. Raises ``SealingError``, ``TrustError`` and :class:`NoKit`."""

    def work() -> KitDone:
        try:
            with file.open("rb") as source:
                data = source.read(_MOST + 1)
        except OSError as error:
            raise NoKit(f"{file} cannot be read: {error.strerror}.") from error
        if len(data) > _MOST:
            raise NoKit(f"{file} is too large for a recovery kit.")
        kit = Kit.decode(opened(data, passphrase))
        workspace.home.ensure()
        workspace.store.take_kit(kit)
        change(workspace.home, name=kit.identity.name)
        return KitDone.of(file, kit)

    return await asyncio.to_thread(work)
