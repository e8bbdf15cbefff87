"""Reading bundles through their seals, and sealing those that are new in a sealed archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from agent.reading import plainly

if TYPE_CHECKING:
    from agent.operations.workspace import Workspace
    from agent.sealing.age import Keys
    from agent.sealing.stream import Opened, Sealer

_START = b"age-encryption.org/"


class BundleFiles:
    """The bundle files of one data folder, and those that were unlocked. All methods block: run them in a thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._present = workspace
        self._known: dict[bytes, Opened] = {}

    @property
    def keys(self) -> Path:
        """Where the keys are."""
        return self._workspace.home.path / "keys"

    def open(self, path: Path) -> BinaryIO:
        """The bundle in the file, sealed or not: an ``Opener``.

        Raises ``SealingError`` where nothing at hand opens it, or where it is damaged, and ``OSError``.
        """
        if not _looks_sealed(path):
            return plainly(path)
        from agent.sealing.stream import read_sealed

        return read_sealed(path, self._opened(path))

    def unlock(self, path: Path, keys: Keys) -> None:
        """Open the file with these keys from now on, and no other. Raises ``SealingError``."""
        from agent.sealing.stream import open_with

        opened = open_with(path, keys)
        self._known[opened.header] = opened

    def opens(self, path: Path) -> bool:
        """Whether the file can be read here without asking anybody. Raises ``OSError``."""
        from agent.sealing.errors import SealingError

        try:
            if _looks_sealed(path):
                self._opened(path)
        except SealingError:
            return False
        return True

    def encoder(self) -> Sealer | None:
        """What seals a new bundle of the archive: to the archive's key, the recovery key and the other recipients.

        None where the archive is not sealed. By the present settings: an agent that runs for weeks receives here.
        """
        self._present = present = self._present.anew()
        if not present.config.encrypt_archive:
            return None
        from agent.operations.keys import shop_recipients
        from agent.sealing.age import Lock
        from agent.sealing.archive_key import ArchiveKey
        from agent.sealing.stream import Sealer

        own = ArchiveKey(self.keys).ensure()
        return Sealer(Lock(tuple(dict.fromkeys((own, *shop_recipients(present))))))

    def _opened(self, path: Path) -> Opened:
        from agent.sealing.age import Keys
        from agent.sealing.archive_key import ArchiveKey
        from agent.sealing.errors import DamagedSealError, KeyNeededError, NotSealedError, WrongKeyError
        from agent.sealing.stream import header_of, open_with

        try:
            header = header_of(path) or b""
        except NotSealedError as error:
            raise DamagedSealError(f"{path.name} is damaged: {error}") from None
        known = self._known.get(header)
        if known is not None:
            return known
        identity = ArchiveKey(self.keys).identity()
        try:
            if identity is not None:
                return open_with(path, Keys((identity,)))
        except (WrongKeyError, KeyNeededError):
            pass
        raise KeyNeededError(
            f"{path.name} is sealed, and nothing on this laptop opens it by itself.",
            "Give --identity FILE (recovery.age, a recovery kit, or an age identity file), or its passphrase.",
        )


def _looks_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_START)) == _START
