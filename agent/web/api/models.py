"""What requests may hold. Unknown names are refused; names are written in camelCase, as in the plan's endpoint."""

from __future__ import annotations

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
