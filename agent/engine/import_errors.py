"""Why a platform backup file is not turned into a bundle, beside what is wrong with the file itself."""

from __future__ import annotations

from agent.engine.errors import EngineError


class ImportRefused(EngineError):
    """Root of these errors. Nothing was written."""

    code = "import-refused"


class UnknownInFile(ImportRefused):
    code = "unknown-in-file"
    hint = "Nothing was imported. To import the rest without them, add --skip-unknown."


class ValuesMisfit(ImportRefused):
    code = "values-misfit"
    hint = (
        "Nothing was imported. The file was made for another version of the platform, or was changed: bring this "
        "laptop's platform up to date, then try again."
    )


class NoBusinessInFile(ImportRefused):
    code = "no-business-in-file"
    hint = "Import a full backup instead, or have the platform make this backup again."


class UnprovenDeviceState(ImportRefused):
    """Device data that the file says is this laptop's own."""

    code = "unproven-device-state"
    hint = (
        "Restore this laptop's own full-device bundle for its device state. To import the rest of the file alone, add "
        "--skip-device-data."
    )


class FileChanged(ImportRefused):
    code = "file-changed"
    hint = "Wait until nothing writes to the file any more, then import it again."
