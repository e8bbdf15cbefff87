"""What can be wrong with a platform backup file, or with a bundle's value that should become part of one."""

from __future__ import annotations

from protocol.errors import ProtocolError


class PlatformFileError(ProtocolError):
    """Something is wrong with a platform backup file."""

    code = "platform-file"
    hint = "Make or fetch the platform's backup again; this file cannot be used."


class NotAPlatformFile(PlatformFileError):
    """The file is not a backup of the platform: no JSON, or JSON of another form."""

    code = "not-a-platform-file"
    hint = "Choose a file that the platform's backup page or `backroom export` made (.json or .json.gz)."


class PlatformVersionUnknown(PlatformFileError):
    """A backup of the platform in another version than 3.0."""

    code = "platform-version"
    hint = "Open and save the backup with the platform's present version, then import that file."


class PlatformFileCutShort(PlatformFileError):
    """The file ends in the middle."""

    code = "platform-file-cut-short"
    hint = "Copy or fetch the file again; it is not complete."


class PlatformFileDamaged(PlatformFileError):
    """The compressed data cannot be unpacked."""

    code = "platform-file-damaged"
    hint = "Copy or fetch the file again; it was damaged on the way."


class BadChecksum(PlatformFileError):
    """The data is not what the file's own checksum says."""

    code = "platform-checksum"
    hint = "The file was changed or damaged after it was made. Copy or fetch it again."


class PlatformFileTooLarge(PlatformFileError):
    """More than a reader takes: a row, the file, the depth, or what the compressed data unpacks to."""

    code = "platform-file-too-large"
    hint = "Do not use this file unless you know who made it: the platform does not write such data."


class ValueMisfit(PlatformFileError):
    """A value that a column of its type cannot hold. ``reason`` says why, after the column's name."""

    code = "value-misfit"

    def __init__(self, reason: str) -> None:
        super().__init__(f"A value {reason}.")
        self.reason = reason
