"""The settings of one place to deliver to: a ``[[delivery]]`` of ``config.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

CLOUD_SCHEMES = ("s3", "gs", "az")
PASSWORD_VARIABLE = "BACKROOM_DELIVERY_{}_PASSWORD"  # noqa: S105 - the name of a variable


class DeliverySettings(BaseModel):
    """One place. ``kind`` decides which settings count; the password may come from the environment instead."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$", description="How commands call it")
    kind: Literal["email", "folder", "smb", "cloud"] = Field(description="What is there")
    path: str | None = Field(None, description="folder: an absolute path, a mounted network share for example")
    url: str | None = Field(None, description="smb: smb://server/share/folder; cloud: s3://bucket/folder, gs://, az://")
    user: str | None = Field(None, description="The user to log in as (S3: the access key's ID; Azure: the account)")
    password: SecretStr | None = Field(None, description="Their password (S3: the secret key; Azure: the account key)")
    domain: str | None = Field(None, description="smb: the domain of the user")
    server: str | None = Field(None, description="email: the SMTP server")
    port: int | None = Field(None, gt=0, le=65535, description="email: its port (587; with tls 465)")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="email: none only for this computer")
    sender: str | None = Field(None, description="email: the address that it comes from")
    to: tuple[str, ...] = Field((), description="email: the addresses that it goes to")
    max_mb: int = Field(25, gt=0, le=1000, description="email: the largest message that the receiver takes, in MB")
    options: Mapping[str, SecretStr] = Field(
        default_factory=dict, description="cloud: more settings, such as endpoint, region, allow_http"
    )
    recipients: tuple[str, ...] = Field((), description="age recipients instead of the shop's")
    plain: bool = Field(False, description="Deliver without sealing")

    @field_validator("to", "recipients", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for address in (value,) if isinstance(value, str) else value or ():
            if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", address):
                raise ValueError(f"{address!r} is not an email address")
        return value

    @model_validator(mode="after")
    def _complete(self) -> DeliverySettings:
        needed = {"email": ("server", "sender", "to"), "folder": ("path",), "smb": ("url",), "cloud": ("url",)}
        for field in needed[self.kind]:
            if not getattr(self, field):
                raise ValueError(f"{field} is needed for {self.kind}")
        parts = urlsplit(self.url or "")
        if parts.password is not None:
            raise ValueError("url holds a password: give it as password or in the environment")
        if self.kind == "smb" and (parts.scheme != "smb" or not parts.hostname or not parts.path.strip("/")):
            raise ValueError("url must be smb://server/share or smb://server/share/folder")
        if self.kind == "cloud" and parts.scheme not in CLOUD_SCHEMES:
            raise ValueError("url must begin with s3://, gs:// or az://")
        local = self.server in {"localhost", "127.0.0.1", "::1"}
        if self.kind == "email" and self.security == "none" and not local:
            raise ValueError("security none would send the password over the network in the clear")
        return self

    @property
    def password_variable(self) -> str:
        """The environment variable whose value goes over the password of the file."""
        return PASSWORD_VARIABLE.format(re.sub(r"[^A-Z0-9]", "_", self.name.upper()))

    def secret(self, environ: Mapping[str, str]) -> str | None:
        """The password: never print it."""
        if self.password_variable in environ:
            return environ[self.password_variable]
        return self.password.get_secret_value() if self.password else None

    def public(self) -> dict[str, Any]:
        """What is set, for showing to people: secrets are masked."""
        shown = {name: value for name, value in self.model_dump(mode="json").items() if name in self.model_fields_set}
        return {
            **shown,
            **({"password": "***"} if self.password else {}),
            **({"options": dict.fromkeys(self.options, "***")} if self.options else {}),
        }

    def stored(self) -> dict[str, object]:
        """What is set, as the file holds it: with its secrets."""
        found: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name not in self.model_fields_set or value is None:
                continue
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, Mapping):
                value = {key: secret.get_secret_value() for key, secret in value.items()}
            found[name] = value
        return found
