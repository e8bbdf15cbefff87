"""Who may open what leaves this laptop: the shop's recovery key and other recipients; and opening it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import change
from agent.config_delivery import DeliverySettings
from agent.operations.errors import OperationError
from agent.operations.passphrases import check, opened
from agent.operations.workspace import Workspace
from agent.sealing.age import (
    Keys,
    Lock,
    check_recipient,
    identities_in,
    is_sealed,
    needs_passphrase,
    recipients_of,
)
from agent.sealing.archive_key import ArchiveKey
from agent.sealing.errors import KeyNeededError, NotSealedError
from agent.sealing.recovery import RecoveryKey
from certs.errors import Malformed
from certs.kit import MAX_KIT, Kit

_MOST = MAX_KIT + 64 * 1024


class NoRecipient(OperationError):
    """Something is about to leave the laptop and nobody could open it, were it sealed."""

    code = "no-recipient"
    hint = (
        "Make the recovery kit with `backroom identity export FILE` (or the key alone with `backroom keys make`), or "
        "give a passphrase with --passphrase; --plain leaves it readable to anyone who gets hold of it."
    )

    def __init__(self) -> None:
        super().__init__("Nobody is set up who could open it, and nothing leaves this laptop readable by itself.")


Ask = Callable[[str], Awaitable[str]]
"""Asks a person (or the environment) for a passphrase; the words say what for."""


@dataclass(frozen=True, slots=True)
class KeysSeen:
    """The recovery key's recipient and file, the other recipients of the settings, and the sealed archive's key."""

    recovery: str | None
    file: Path
    others: tuple[str, ...]
    archive: str | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "recovery": self.recovery,
            "file": str(self.file) if self.recovery else None,
            "recipients": list(self.others),
            "archive": self.archive,
        }


def recovery_key(workspace: Workspace) -> RecoveryKey:
    """The recovery key of this data folder, in ``keys/``."""
    return RecoveryKey(workspace.home.path / "keys")


def show(workspace: Workspace) -> KeysSeen:
    """What there is. Blocking."""
    key = recovery_key(workspace)
    others = recipients_of(workspace.config.age_recipients)
    return KeysSeen(key.recipient(), key.sealed, others, ArchiveKey(key.folder).recipient())


async def make_recovery_key(workspace: Workspace, passphrase: str) -> KeysSeen:
    """Make the recovery key and prove that it opens what is sealed to it. Raises ``SealingError``."""
    workspace.home.ensure()
    await asyncio.to_thread(recovery_key(workspace).create, passphrase)
    return await asyncio.to_thread(show, workspace)


async def prove_recovery_key(workspace: Workspace, passphrase: str) -> str:
    """Open a probe with the sealed key. Returns the recipient; raises ``SealingError``."""
    return await asyncio.to_thread(recovery_key(workspace).prove, passphrase)


def add_recipient(workspace: Workspace, text: str) -> tuple[str, ...]:
    """Let another key open what leaves this laptop. Blocking. Returns all recipients; raises ``BadKeyError``."""
    found = recipients_of((*workspace.config.age_recipients, check_recipient(text)))
    change(workspace.home, age_recipients=found)
    return found


def remove_recipient(workspace: Workspace, text: str) -> tuple[str, ...]:
    """The other way round; what was sealed to it before still opens with it. Blocking."""
    found = tuple(each for each in workspace.config.age_recipients if each != text.strip())
    change(workspace.home, age_recipients=found)
    return found


def shop_recipients(workspace: Workspace) -> tuple[str, ...]:
    """The recovery key, where there is one, and the other recipients of the settings. Blocking."""
    recovery = recovery_key(workspace).recipient()
    return recipients_of((*((recovery,) if recovery else ()), *workspace.config.age_recipients))


async def lock_for_leaving(workspace: Workspace, *, plain: bool = False, passphrase: str | None = None) -> Lock | None:
    """What a file that leaves the shop's laptops is sealed with: a passphrase, else the shop's recipients.

    None where ``plain``. Raises :class:`NoRecipient` and ``WeakPassphraseError``.
    """
    if plain:
        return None
    if passphrase is not None:
        return Lock((), check(passphrase))
    recipients = await asyncio.to_thread(shop_recipients, workspace)
    if not recipients:
        raise NoRecipient
    return Lock(recipients)


def recipients_for(workspace: Workspace, place: DeliverySettings) -> tuple[str, ...]:
    """The place's own recipients, else the shop's. Blocking. The recovery key is among them wherever there is one."""
    recovery = recovery_key(workspace).recipient()
    own = place.recipients or workspace.config.age_recipients
    return recipients_of((*((recovery,) if recovery else ()), *own))


async def nobody(words: str) -> str:
    """An ``Ask`` where nobody is there to be asked."""
    raise KeyNeededError("The file is sealed, and nobody is here to be asked for a passphrase.")


async def unlock(workspace: Workspace, path: Path, ask: Ask, *, identity: Path | None = None) -> None:
    """Have the file read through its seal from now on; one that is not sealed, or that the archive's own key opens, is
    left as it is.

    ``identity`` is an age identity file, the sealed recovery key or a recovery kit; without one the passphrase is asked
    for, the file's or the recovery key's. No copy is made. Raises ``SealingError`` and ``OSError``.
    """
    files = workspace.bundle_files
    if not await asyncio.to_thread(is_sealed, path) or await asyncio.to_thread(files.opens, path):
        return
    try:
        keys = await _keys(workspace, path, ask, identity)
    except NotSealedError:
        return  # half a header: whoever reads the file finds the damage and names it
    await asyncio.to_thread(files.unlock, path, keys)


async def _keys(workspace: Workspace, path: Path, ask: Ask, identity: Path | None) -> Keys:
    if await asyncio.to_thread(needs_passphrase, path):
        return Keys(passphrase=await ask(f"Passphrase of {path.name}"))
    if identity is not None:
        if await asyncio.to_thread(is_sealed, identity):
            words = await ask(f"Passphrase of {identity.name}")
            return Keys(await asyncio.to_thread(_in_sealed, identity, words))
        text = await asyncio.to_thread(identity.read_text, "utf-8")
        return Keys(identities_in(text))
    key = recovery_key(workspace)
    if not await asyncio.to_thread(key.sealed.exists):
        raise KeyNeededError(
            f"{path.name} is sealed to a key that is not on this laptop.",
            "Give --identity FILE: recovery.age of the shop's recovery kit, or an age identity file.",
        )
    words = await ask("Passphrase of the recovery key")
    return Keys((await asyncio.to_thread(key.identity, words),))


def _in_sealed(identity: Path, passphrase: str) -> tuple[str, ...]:
    """The identities in a sealed file: a recovery key or a recovery kit."""
    with identity.open("rb") as file:
        data = opened(file.read(_MOST), passphrase)
    try:
        return tuple(Kit.decode(data).opens.values())
    except Malformed:
        return identities_in(data.decode("ascii", errors="replace"))
