"""What can be wrong with a sealed file or a key: the text is the message to the user, ``hint`` what to do next."""

from __future__ import annotations


class SealingError(Exception):
    """Root of this package's errors."""

    code = "sealing"
    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class NotSealedError(SealingError):
    """The file is not an age file, or one of a kind that Backroom does not make."""

    code = "not-sealed"


class DamagedSealError(SealingError):
    """The sealed file was cut short or changed; nothing of it can be used."""

    code = "sealed-damaged"
    hint = "Fetch the file again from where it was delivered to."


class WrongKeyError(SealingError):
    """None of the keys at hand opens the file."""

    code = "wrong-key"
    hint = "It opens with the key of the shop's recovery kit, or with the identity file of another recipient."


class WrongPassphraseError(SealingError):
    """The passphrase does not open it."""

    code = "wrong-passphrase"
    hint = "Check capital letters and the keyboard's language, then try again."


class KeyNeededError(SealingError):
    """Nothing was given to open the file with, or to seal it with."""

    code = "key-needed"


class BadKeyError(SealingError):
    """A recipient or identity that is none."""

    code = "bad-key"
    hint = (
        "A recipient looks like age1..., an identity like AGE-SECRET-KEY-1...; `backroom keys show` shows this shop's."
    )


class WeakPassphraseError(SealingError):
    """A passphrase that is too short to protect anything."""

    code = "weak-passphrase"
    hint = "Take four or more random words, and write them down where the shop keeps its papers."


class KeyExistsError(SealingError):
    """There is a recovery key already."""

    code = "key-exists"
    hint = "`backroom keys show` shows it. Backups that were sealed to it need it for life."
