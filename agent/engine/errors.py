"""What can go wrong in a backup, beside the database and the bundle themselves."""

from __future__ import annotations


class EngineError(Exception):
    """Root of this package's errors. ``str(error)`` says what happened to what, ``hint`` what to do next."""

    code = "engine"
    hint = "Please report this with the log in the data folder."

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class NothingToBackUp(EngineError):
    code = "nothing-to-back-up"
    hint = "Check that the address in config.toml names the right database; `backroom businesses` shows what is in it."


class RowTooLarge(EngineError):
    code = "row-too-large"
    hint = "Move such files out of the database; a full bundle cannot hold them either. Nothing was written."


class GateFailed(EngineError):
    """A backup would have been incomplete or would have taken another business along; nothing was written."""

    code = "gate-failed"
    hint = (
        "Classify the tables named above in tables.toml in the data folder (`backroom tables` shows how each travels), "
        "then try again."
    )
