"""What an operation refuses, beside the errors of the layers below."""

from __future__ import annotations


class OperationError(Exception):
    """Root of this package's errors. ``str(error)`` says what happened to what, ``hint`` what to do next."""

    code = "operation"
    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UntrustedSource(OperationError):
    code = "untrusted-source"
    hint = "If you know where the file comes from, add --trust-source. Otherwise do not restore it."


class Declined(OperationError):
    code = "declined"
    hint = "Nothing was changed."
