"""The settings of one agent: ``config.toml`` in the data folder, each overridable by ``BACKROOM_<NAME>``."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from agent.config_care import Alerts, Retention, ScheduleEntry
from agent.config_delivery import DeliverySettings
from agent.home import Home

PREFIX = "BACKROOM_"
_TABLES = frozenset({"retention", "alerts", "schedule", "delivery"})  # set in the file alone


class ConfigError(Exception):
    """The settings cannot be used. ``hint`` says what to do next."""

    code = "config"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotSetUpError(ConfigError):
    """There is no ``config.toml`` yet."""

    code = "not-set-up"


class BadConfigError(ConfigError):
    """The file or an environment variable holds something that cannot be used; the message names the line."""

    code = "bad-config"


def _split(value: object) -> object:
    """Lists come as TOML arrays, or from the environment as text with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Config(BaseModel):
    """All settings. Immutable; :meth:`model_copy` or :func:`change` make a changed one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr | None = Field(
        None, description="The business database: postgresql://user:password@host/db"
    )
    name: str | None = Field(None, max_length=64, description="The name of this device, as the other devices show it")
    port: int = Field(47600, ge=0, le=65535, description="The port for other devices (0: any free one)")
    listen: Names = Field((), description="The addresses to listen on; empty means all")
    peers: Names = Field((), description="Devices to try beside those found on the network: HOST or HOST:PORT")
    bandwidth_limit: float | None = Field(
        None, gt=0, description="How much this laptop sends to others at most, in MB a second; empty means no limit"
    )
    device_quota: float = Field(
        100.0, gt=0, description="How many GB of pushed bundles each other device may have in this archive"
    )
    tables_file: Path | None = Field(
        None, description="Your classification of tables, if not tables.toml beside this file"
    )
    history_url: SecretStr | None = Field(None, description="Another history database: a postgresql:// or mysql:// URL")
    conflicts: Literal["bundle", "newer", "local"] = Field("bundle", description="Which row wins in a restore")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the log holds")
    retention: Retention = Field(Retention(), description="How long backups are kept, by kind: see `backroom prune`")
    alerts: Alerts = Field(Alerts(), description="Who is told when something needs attention")
    schedule: tuple[ScheduleEntry, ...] = Field((), description="What is done when: see `backroom schedule`")
    web_port: int = Field(
        47601, ge=0, le=65535, description="The port of this laptop's own page and API, on 127.0.0.1 (0: any free one)"
    )
    encrypt_archive: bool = Field(False, description="Seal new bundles of the archive with age: see `backroom keys`")
    age_recipients: Names = Field((), description="Who may open what leaves this laptop, beside the recovery key")
    delivery: tuple[DeliverySettings, ...] = Field((), description="Where backups are delivered to")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError("must be printable text")
        return value.strip() if value else None

    @field_validator("peers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            split_address(address, default_port=1)
        return value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must be an address such as postgresql://user:password@localhost/shop")
        return value

    @field_validator("delivery")
    @classmethod
    def _names_once(cls, value: tuple[DeliverySettings, ...]) -> tuple[DeliverySettings, ...]:
        names = [each.name.lower() for each in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two deliveries are named {name}")
        return value

    @field_validator("schedule")
    @classmethod
    def _entries_once(cls, value: tuple[ScheduleEntry, ...]) -> tuple[ScheduleEntry, ...]:
        names = [each.name.lower() for each in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two entries are named {name}")
        return value

    def database(self) -> str:
        """The address of the business database, with its password: never print it (see :func:`mask`)."""
        if self.database_url is None:
            raise NotSetUpError(
                "No business database is set.",
                "Run `backroom init --database postgresql://user:password@localhost/shop`.",
            )
        return self.database_url.get_secret_value()

    def device_name(self) -> str:
        """The name of this device."""
        if self.name is None:
            raise NotSetUpError("This device has no name yet.", "Run `backroom init --name laptop-finance-001`.")
        return self.name

    def public(self) -> dict[str, Any]:
        """All settings for showing to people: passwords are masked."""
        shown = self.model_dump(mode="json")
        for field in ("database_url", "history_url"):
            secret: SecretStr | None = getattr(self, field)
            shown[field] = mask(secret.get_secret_value()) if secret else None
        shown["delivery"] = [each.public() for each in self.delivery]
        return shown


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT`` as host and port. Raises ``ValueError`` with a sentence."""
    match = re.fullmatch(
        r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?", address.strip()
    )
    if match is None:
        try:
            return str(IPv6Address(address.strip())), default_port
        except ValueError:
            raise ValueError(f"{address!r} is not HOST or HOST:PORT") from None
    port = int(match["port"]) if match["port"] else default_port
    if not 0 < port < 65536:
        raise ValueError(f"{address!r} has a port outside 1-65535")
    return match["six"] or match["host"], port


def mask(text: str) -> str:
    """``text`` with every password of a URL or ``password=`` setting in it replaced by ``***``."""
    text = re.sub(r"(?P<head>\b[\w+.-]+://[^\s:/@]*:)[^\s/]*(?P<at>@)", r"\g<head>***\g<at>", text)
    return re.sub(r"(?i)(?P<head>\b(?:password|passwd|pwd|passphrase)=)(?:'[^']*'|[^\s&;]+)", r"\g<head>***", text)


def load(home: Home, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings of ``home``, environment variables over the file. Raises :class:`ConfigError`."""
    text = _read(home)
    overrides = _overrides(environ)
    return _validated(home, text, {**_parse(home, text), **overrides}, overrides)


def load_early(home: Home, environ: Mapping[str, str] = os.environ) -> Config:
    """As :func:`load`; before there is a file, the environment and the defaults alone."""
    try:
        return load(home, environ)
    except NotSetUpError:
        overrides = _overrides(environ)
        return _validated(home, "", overrides, overrides)


def _overrides(environ: Mapping[str, str]) -> dict[str, object]:
    return {
        name: environ[PREFIX + name.upper()]
        for name in Config.model_fields
        if name not in _TABLES and PREFIX + name.upper() in environ
    }


def change(home: Home, **changes: object) -> Config:
    """Change settings in the file alone (the environment is left out), making the file where missing."""
    text = _read(home) if home.config.exists() else ""
    config = _validated(home, text, {**_parse(home, text), **changes}, changes)
    save(home, config)
    return config


def save(home: Home, config: Config) -> None:
    """Write the whole file anew (temp file, fsync, rename; mode 0600, since it holds a password)."""
    home.ensure()
    temporary = home.config.with_name(f".config.toml.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(_lines(config)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(home.config)
    finally:
        temporary.unlink(missing_ok=True)


def _read(home: Home) -> str:
    try:
        return home.config.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotSetUpError(
            f"Backroom is not set up in {home.path}: there is no config.toml.",
            "Run `backroom open` and set it up on the page, or `backroom init --database URL --name NAME`; or choose "
            "the data folder with --home DIR.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfigError(f"{home.config} cannot be read: {error}.", "Check the file and its rights.") from error


def _parse(home: Home, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfigError(f"{home.config} is not valid TOML: {error}.", "Correct that line.") from error


def _validated(home: Home, text: str, values: Mapping[str, object], overrides: Iterable[str]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0])
        problem = (
            "unknown setting" if first["type"] == "extra_forbidden" else str(first["msg"]).removeprefix("Value error, ")
        )
        where = _where(home, text, name, overrides)
    inner = "".join(f" {part + 1}:" if isinstance(part, int) else f" {part}:" for part in first["loc"][1:])
    known = ", ".join(DeliverySettings.model_fields if inner else Config.model_fields)
    hint = f"Known settings: {known}." if problem == "unknown setting" else f"Correct {where}."
    raise BadConfigError(f"{where}: {name}:{inner} {problem}.", hint)


def _where(home: Home, text: str, name: str, overrides: Iterable[str]) -> str:
    if name in overrides:
        return f"the value given for {name} ({PREFIX}{name.upper()})"
    pattern = re.compile(rf"\s*(\[+\s*)?[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
    lines = (number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line))
    number = next(lines, None)
    return f"{home.config}, line {number}" if number else str(home.config)


def _lines(config: Config) -> Iterable[str]:
    for name, field in Config.model_fields.items():
        if name in _TABLES:  # tables come last
            continue
        value = getattr(config, name)
        yield f"# {field.description}"
        shown = value.get_secret_value() if isinstance(value, SecretStr) else value
        if shown is None or shown == field.default:
            yield f"# {name} = {_toml('' if field.default is None else field.default)}"
        else:
            yield f"{name} = {_toml(shown)}"
    yield from _section("[retention]", config.retention)
    yield from _section("[alerts]", config.alerts)
    for entry in config.schedule:
        yield from _section("[[schedule]]", entry)
    for delivery in config.delivery:
        yield "\n[[delivery]]"
        for key, value in delivery.stored().items():
            yield f"{key} = {_toml(value)}"


def _section(heading: str, values: BaseModel) -> Iterable[str]:
    """A TOML table of what differs from the defaults; nothing where nothing does."""
    given = {name: value for name, value in values if value != type(values).model_fields[name].default}
    if given:
        yield from ("", heading)
        for name, value in given.items():
            yield f"{name} = {_toml(value.get_secret_value() if isinstance(value, SecretStr) else value)}"


def _toml(value: object) -> str:
    """A TOML value. JSON's strings are TOML's, except for DEL and for escaped surrogates (none: not ASCII only)."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
