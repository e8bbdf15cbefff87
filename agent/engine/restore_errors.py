"""Why a restore does not happen. Whenever one of these is raised, the database is as it was."""

from __future__ import annotations

from collections.abc import Sequence

from agent.engine.errors import EngineError

_SHOWN = 20


class RestoreError(EngineError):
    """Root of the restore's own refusals. ``details`` are the single findings behind the sentence, plain values."""

    code = "restore"
    hint = "Nothing was changed."

    def __init__(self, message: str, hint: str | None = None, *, details: Sequence[object] = ()) -> None:
        super().__init__(message, hint)
        self.details = tuple(details)


class DeviceTableRefused(RestoreError):
    code = "device-table"
    hint = "The bundle was made with another idea of which tables are device state. Update Backroom on both devices."


class SchemaDrift(RestoreError):
    code = "schema-drift"
    hint = "Bring both platforms to the same version (run the platform's migrations here), then try again."


class DuplicateRows(RestoreError):
    code = "duplicate-rows"
    hint = (
        "These are different rows with the same number, name or code. Change one of each pair on one of the two "
        "laptops, then make the backup again."
    )


class UnclearRows(RestoreError):
    code = "unclear-rows"
    hint = "Merge or rename the rows in question on one of the two laptops, then make the backup again."


class MirrorRefused(RestoreError):
    code = "mirror-refused"
    hint = "Make a backup of the one business (`backroom backup --business NAME`) and mirror that."


class MirrorBlocked(RestoreError):
    code = "mirror-blocked"
    hint = "Change or delete the named rows in the platform first, or restore without --mirror."


class CloneRefused(RestoreError):
    code = "clone-refused"
    hint = "Choose another name, or make a backup of the one business (`backroom backup --business NAME`)."


class NoSuchTable(RestoreError):
    code = "no-such-table"
    hint = "`backroom tables` lists the tables; both the SQL name and the plan's name will do."


class MissingReferences(RestoreError):
    code = "missing-references"
    hint = "Make a full backup instead, or classify the tables that were left out (`backroom tables`)."


class NotABackup(RestoreError):
    code = "undo-bundle"
    hint = "Use `backroom undo` to take a restore back."


class PlanChanged(RestoreError):
    code = "plan-changed"
    hint = "Look at the new plan (`restore --plan`), then apply that one."


class CountsDiffer(RestoreError):
    code = "counts-differ"
    hint = (
        "Something in the database (a trigger, a rule) changed or swallowed rows. Everything was rolled back. "
        "Look at the triggers of the named table."
    )


class BundleChanged(RestoreError):
    code = "bundle-changed"
    hint = "The file changed while it was read. Copy or fetch it again."


def listed(message: str, findings: Sequence[object]) -> str:
    """``message`` with the findings below it, one a line, at most twenty."""
    lines = [message, *(f"  {finding}" for finding in findings[:_SHOWN])]
    if len(findings) > _SHOWN:
        lines.append(f"  ... and {len(findings) - _SHOWN} more")
    return "\n".join(lines)
