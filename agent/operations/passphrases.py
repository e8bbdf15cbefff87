"""Small secrets sealed with a passphrase: age files that any age program opens."""

from __future__ import annotations

import io

from agent.sealing.age import Keys, Lock, seal, unseal
from agent.sealing.errors import WeakPassphraseError
from agent.sealing.recovery import LEAST_PASSPHRASE


def check(passphrase: str) -> str:
    """The passphrase, where it is long enough. Raises ``WeakPassphraseError``."""
    if len(passphrase) < LEAST_PASSPHRASE:
        raise WeakPassphraseError(f"The passphrase has fewer than {LEAST_PASSPHRASE} characters.")
    return passphrase


def sealed(data: bytes, passphrase: str) -> bytes:
    """``data`` as an age file. Blocking: takes a second and 256 MB. Raises ``WeakPassphraseError``."""
    target = io.BytesIO()
    seal(io.BytesIO(data), target, Lock(passphrase=check(passphrase)))
    return target.getvalue()


def opened(data: bytes, passphrase: str) -> bytes:
    """What was sealed. Blocking. Raises ``WrongPassphraseError``, ``NotSealedError``, ``DamagedSealError``."""
    target = io.BytesIO()
    unseal(io.BytesIO(data), target, Keys(passphrase=passphrase))
    return target.getvalue()
