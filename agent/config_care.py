"""The settings of how backups are looked after: how long they stay, what is done when, and who is told."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RULE = re.compile(r"(?=.)(?:\d{1,4}d)?\s*(?:\d{1,4}w)?\s*(?:\d{1,4}m)?")


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Retention(_Section):
    """How many days, weeks and months with backups are kept of each kind ("7d 4w 12m"), and days in the trash."""

    full: str = Field(default="7d 4w 12m")
    business: str = Field(default="30d 12w")
    full_device: str = Field(default="3d 2w")
    trash_days: int = Field(default=7, ge=0, le=3650)

    @field_validator("full", "business", "full_device")
    @classmethod
    def _rule(cls, value: str) -> str:
        if not _RULE.fullmatch(value.strip()):
            raise ValueError("must be a rule such as '7d 4w 12m'")
        return value


class Alerts(_Section):
    """Where alerts go beside the log. An alert that stays is repeated after ``repeat_hours``."""

    webhook: SecretStr | None = Field(default=None)
    email: Names = Field(default=())
    desktop: bool = Field(default=True)
    repeat_hours: int = Field(default=24, ge=1, le=8760)

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"https?://[^\s/]+", value.get_secret_value()):
            raise ValueError("must be an address such as https://example.org/hook")
        return value


class ScheduleEntry(_Section):
    """One thing that is done by itself.

    ``at``: times of day ("21:00") in the laptop's zone; ``days``: weekdays ("mon") or days of the month ("1"), none
    for every day; ``jitter_minutes``: started at a moment within so many minutes after it; ``alarm_hours``: how long
    after its time it may be missing before that is an alarm; ``when_online``: a push is also made when its device
    comes back; ``off``: switched off; ``added``: it is due from then on.
    """

    name: str
    task: Literal["backup", "push", "verify", "drill", "prune"]
    at: Names = Field(default=("21:00",), min_length=1, max_length=24)
    days: Names = Field(default=(), max_length=31)
    kind: Literal["full", "business", "full-device"] | None = Field(default=None)
    business: str | None = Field(default=None)
    device: str | None = Field(default=None)
    when_online: bool = Field(default=False)
    jitter_minutes: int = Field(default=0, ge=0, le=720)
    alarm_hours: int = Field(default=12, ge=1, le=8760)
    off: bool = Field(default=False)
    added: datetime | None = Field(default=None)

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be letters, digits, dots and dashes, at most 64")
        return value

    @field_validator("at")
    @classmethod
    def _times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _TIME.fullmatch(text):
                raise ValueError("must be times of day such as 21:00")
        return tuple(sorted(set(value)))

    @field_validator("days")
    @classmethod
    def _days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if text not in WEEKDAYS and not (text.isdecimal() and 1 <= int(text) <= 31):
                raise ValueError(f"must be days such as {', '.join(WEEKDAYS)}, or days of the month such as 1")
        return value

    @field_validator("added")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("must be a time with its zone")
        return value

    @model_validator(mode="after")
    def _complete(self) -> ScheduleEntry:
        if self.task == "backup" and self.kind is None:
            raise ValueError(f"{self.name}: a backup needs a kind (full, business or full-device)")
        if self.task == "push" and (self.business is None or self.device is None):
            raise ValueError(f"{self.name}: a push needs a business and a device")
        if self.kind == "business" and self.business is None:
            raise ValueError(f"{self.name}: a business backup needs a business")
        return self
