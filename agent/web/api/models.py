"""What requests may hold. Unknown names are refused; names are written in camelCase, as in the plan's endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel


class Request(BaseModel):
    """Root of all requests."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, validate_by_name=False
    )


class Nothing(Request):
    """A request without anything."""


class HistoryAsked(Request):
    limit: int = Field(20, ge=1, le=1000, description="How many of each")


class Download(Request):
    """The plan's download endpoint."""

    business_id: str | None = Field(default=None, description="One business, by id, name or slug; without it all")
    compress: bool = Field(default=True, description="Compress the rows")
    include_demo_data: bool = Field(default=False, description="Take demo businesses along")
    include_device_data: bool = Field(default=False, description="All of this laptop, with its device state")
    plain: bool = Field(
        default=False,
        description="Not sealed. Without it the file is an age file (.age), sealed to the shop's recovery key and "
        "recipients; where there are none, the answer is the error no-recipient",
    )


class BundleAsked(Request):
    """A stored bundle as a download."""

    plain: bool = Field(default=False, description="Not sealed; without it the file is an age file (.age)")


class BackupAsked(Request):
    kind: Literal["full", "business-specific", "full-device"] = Field(description="What to back up")
    business: str | None = Field(default=None, description="The business, by id, name or slug")
    compress: bool = Field(default=True, description="Compress the rows")
    include_demo: bool = Field(default=False, description="Take demo businesses along")


class PlanAsked(Request):
    bundle: str = Field(description="A path, a file name in the archive, or an id")
    conflicts: Literal["newer", "bundle", "local"] | None = Field(default=None, description="Which row wins")
    trust_source: bool = Field(default=False, description="Take a file that a device outside this shop made")
    passphrase: SecretStr | None = Field(default=None, description="Opens a sealed file (or the recovery key)")


class RestoreAsked(PlanAsked):
    plan_digest: str = Field(description="The digest of the plan that was looked at: exactly that is applied")


class PushAsked(Request):
    business: str = Field(description="The business, by id, name or slug")
    device: str = Field(description="The other laptop, by name or id")
    compress: bool = Field(default=True, description="Compress the rows")


class PullAsked(Request):
    device: str = Field(description="The other laptop, by name or id")
    kind: Literal["full", "business-specific", "full-device"] = Field(description="What to have backed up there")
    business: str | None = Field(default=None, description="The business, by id, name or slug")
    compress: bool = Field(default=True, description="Compress the rows")
    include_demo: bool = Field(default=False, description="Take demo businesses along")


class DeliveryAsked(Request):
    bundle: str = Field(description="A path, a file name in the archive, or an id")
    to: str = Field(description="A place by name, or an address such as email:a@b.c, path:/mnt/nas, s3://bucket")
    plain: bool = Field(default=False, description="Deliver without sealing")
    passphrase: SecretStr | None = Field(default=None, description="Seal with this instead of the shop's keys")
    queue: bool = Field(default=False, description="Leave it to the queue and answer at once")


class VerifyAsked(Request):
    bundles: tuple[str, ...] = Field(default=(), description="Paths, file names in the archive, or ids")
    all: bool = Field(default=False, description="Every backup of the archive")
    due: bool = Field(default=False, description="Those that were not verified in the last 30 days")
    deep: bool = Field(default=False, description="Unpack every block and follow every reference, too")
    passphrase: SecretStr | None = Field(default=None, description="Opens sealed files (or the recovery key)")


class DrillAsked(Request):
    bundles: tuple[str, ...] = Field(default=(), description="Ids or file names; none: the newest of each group")
    database: SecretStr | None = Field(default=None, description="Where to make the scratch tables")


class NoteAsked(Request):
    bundle: str = Field(description="An id or file name")
    notes: str | None = Field(default=None, max_length=2000, description="The note; empty takes it away")
    pinned: bool | None = Field(default=None, description="Whether no rule may remove it")


class ExportAsked(Request):
    bundle: str = Field(description="A path, a file name in the archive, or an id")
    output: Path = Field(description="The folder or new file on this laptop; .json: not compressed")
    compress: bool = Field(default=True, description="Compress the file")
    plain: bool = Field(default=False, description="Not sealed: only so the platform itself can read it")
    passphrase: SecretStr | None = Field(default=None, description="Seal with this instead of the shop's keys")


class ImportAsked(Request):
    file: str = Field(description="A backup file of the platform on this laptop, or at a place; sealed ones too")
    skip_unknown: bool = Field(default=False, description="Leave out tables and columns that are not here")
    skip_device_data: bool = Field(default=False, description="Leave out the state of the device that made it")
    passphrase: SecretStr | None = Field(default=None, description="Opens a sealed file (or the recovery key)")


class UndoPlanAsked(Request):
    restore: str | None = Field(default=None, description="The restore's id; none: the last one")


class UndoAsked(UndoPlanAsked):
    plan_digest: str = Field(description="The digest of the plan that was looked at: exactly that is done")
    changed: Literal["stop", "keep", "overwrite"] = Field(
        default="stop", description="What becomes of rows that were changed since"
    )


class CompareAsked(Request):
    business: str = Field(description="The business, by id, name or slug")
    other: str = Field(alias="with", description="A laptop of the shop, or a bundle")
    trust_source: bool = Field(default=False, description="Read a bundle that a device outside this shop made")
    passphrase: SecretStr | None = Field(default=None, description="Opens a sealed file (or the recovery key)")


class Named(Request):
    name: str = Field(description="Its name")


class SwitchAsked(Named):
    on: bool = Field(description="On, or off: it stays in the schedule and is not done")


class ScheduleAsked(Named):
    task: Literal["backup", "push", "verify", "drill", "prune"] = Field(description="What is done")
    at: tuple[str, ...] = Field(default=("21:00",), description="Times of day, in this laptop's zone")
    days: tuple[str, ...] = Field(default=(), description="Weekdays (mon) or days of the month (1); none: every day")
    kind: Literal["full", "business", "full-device"] | None = Field(default=None, description="Of a backup")
    business: str | None = Field(default=None, description="The business, by id, name or slug")
    device: str | None = Field(default=None, description="Where a push goes")
    when_online: bool = Field(default=False, description="Push also when that laptop comes back")
    jitter_minutes: int = Field(default=0, ge=0, le=720, description="Start at a moment within so many minutes after")
    alarm_hours: int = Field(default=12, ge=1, le=8760, description="Missing so long, it is an alarm")


class CancelAsked(Request):
    transfer: str = Field(description="The transfer's id, or the beginning of it")


class AnswerAsked(Request):
    request: str = Field(description="The request's id")
    yes: bool = Field(description="Approve exactly what its plan says, or decline")
    always: bool = Field(default=False, description="From now on do not ask for this laptop and business")


class DoctorAsked(Request):
    device: str | None = Field(default=None, description="A laptop that is not seen or reached; none: this one")
