"""The archive's errors: the text is the message to the user, ``hint`` what to do next."""

from __future__ import annotations


class ArchiveError(Exception):
    """Something is wrong with the archive, the spool or the history."""

    code = "archive"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class DiskFullError(ArchiveError):
    """The disk, quota or size limit is used up; what was begun is removed."""

    code = "disk-full"


class WriteError(ArchiveError):
    """A file could not be written for another reason than space."""

    code = "write-failed"


class FileExistsAlreadyError(ArchiveError):
    """The file that was asked for is there already; nothing is ever overwritten."""

    code = "file-exists"


class BadNameError(ArchiveError):
    """A file name or bundle ID that cannot be used as a file name."""

    code = "bad-name"


class NoSuchBundleError(ArchiveError):
    """Neither the archive nor the history knows the bundle."""

    code = "no-such-bundle"


class AmbiguousBundleError(ArchiveError):
    """More than one bundle fits."""

    code = "ambiguous-bundle"


class SpoolError(ArchiveError):
    """Something is wrong with a bundle on its way in."""

    code = "spool"


class SpoolBusyError(SpoolError):
    """The same bundle is being received already."""

    code = "spool-busy"


class SpoolOverrunError(SpoolError):
    """More bytes came than were announced."""

    code = "spool-overrun"


class SpoolIncompleteError(SpoolError):
    """The bundle is not complete yet."""

    code = "spool-incomplete"


class HistoryError(ArchiveError):
    """The history database cannot be used."""

    code = "history"


class HistoryTooNewError(HistoryError):
    """The history database was made by a newer Backroom."""

    code = "history-too-new"


class NoSuchRecordError(HistoryError):
    """The history has no such record."""

    code = "no-such-record"
