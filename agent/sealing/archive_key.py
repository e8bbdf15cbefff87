"""The key of a sealed archive: an age identity that lies beside the laptop's other keys, readable for its user alone.

The agent must read the archive by itself, day and night, so no passphrase protects it. It protects what is *not* this
disk: an archive on another disk, in a synchronised folder, in a copy of the archive. Everything is sealed to the
recovery key too, wherever there is one.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from agent.sealing.age import identities_in, new_identity, recipient_of


@dataclass(frozen=True, slots=True)
class ArchiveKey:
    """The key's file in ``folder``. All methods block: run them in a thread."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "archive.key"

    def identity(self) -> str | None:
        """The identity; None where there is none. Raises ``BadKeyError`` for a damaged file."""
        try:
            return identities_in(self.file.read_text(encoding="ascii", errors="replace"))[0]
        except FileNotFoundError:
            return None

    def recipient(self) -> str | None:
        """What is sealed to; None where there is no key."""
        identity = self.identity()
        return None if identity is None else recipient_of(identity)

    def ensure(self) -> str:
        """The recipient, of a new key where there is none."""
        if (there := self.recipient()) is not None:
            return there
        self.keep(new_identity()[0])
        found = self.recipient()
        assert found is not None
        return found

    def keep(self, identity: str) -> None:
        """Write the key, where there is none: two processes that do so at once keep the same one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.folder / f".archive.key.{secrets.token_hex(4)}"
        text = f"# Opens the sealed archive of this laptop: keep it as you keep the archive.\n{identity}\n"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, self.file)
            except FileExistsError:
                return
            except OSError:
                if not self.file.exists():
                    temporary.replace(self.file)  # a file system without hard links
        finally:
            temporary.unlink(missing_ok=True)
