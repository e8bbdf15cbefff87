"""From settings, or from an address on the command line, to a place that can be delivered to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from agent.config_delivery import CLOUD_SCHEMES, DeliverySettings
from agent.delivery.base import Delivery, is_backup
from agent.delivery.errors import BadPlaceError

_SMTP_PORTS = {"tls": 465, "starttls": 587, "none": 25}


def find_place(text: str, configured: Sequence[DeliverySettings]) -> DeliverySettings:
    """The settings of the place that the user means: a configured name, or an address.

    Addresses: ``email:ADDRESS``, ``path:FOLDER``, ``smb://server/share/folder``, ``s3://``, ``gs://``, ``az://``.
    They carry no password: an email goes over the first configured server, a share or cloud takes login
    and options of the configured place on the same server or bucket (else the environment's, for clouds).
    Raises ``BadPlaceError``.
    """
    for each in configured:
        if each.name.lower() == text.lower():
            return each
    scheme, colon, rest = text.partition(":")
    try:
        if colon and scheme == "email":
            return _email(rest, configured)
        if colon and scheme == "path":
            folder = os.path.abspath(Path(rest).expanduser())  # noqa: PTH100 - resolve() would follow links
            return DeliverySettings.model_validate({"name": "path", "kind": "folder", "path": folder})
        if colon and scheme == "smb":
            return _like("smb", text, configured)
        if colon and scheme in CLOUD_SCHEMES:
            return _like("cloud", text, configured)
    except ValidationError as error:
        reason = str(error.errors(include_input=False, include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise BadPlaceError(f"The {scheme}: address cannot be used: {reason}.") from None
    known = ", ".join(each.name for each in configured) or "none yet"
    raise BadPlaceError(f"There is no place {text!r} to deliver to (set up: {known}).")


def split_address(text: str, configured: Sequence[DeliverySettings]) -> tuple[str, str | None] | None:
    """A place and the name of a file there, of ``smb://server/share/folder/FILE`` (``s3://``, ``gs://``, ``az://``,
    ``path:``) or ``PLACE:FILE`` with the name of a configured place; the name is None where only the place was said.

    None where the text is no address at all.
    """
    scheme, colon, rest = text.partition(":")
    if not colon:
        return (text, None) if any(each.name.lower() == text.lower() for each in configured) else None
    if scheme in {"smb", "path", *CLOUD_SCHEMES}:
        place, slash, name = text.rpartition("/")
        if slash and is_backup(name):
            return (place if place != "path:" else "path:/"), name
        return text, None
    if any(each.name.lower() == scheme.lower() for each in configured):
        return scheme, rest or None
    return None


def _email(addresses: str, configured: Sequence[DeliverySettings]) -> DeliverySettings:
    for each in configured:
        if each.kind == "email":
            to = tuple(part.strip() for part in addresses.split(",") if part.strip())
            return DeliverySettings.model_validate({**each.stored(), "to": to})
    raise BadPlaceError(
        "No mail server is set up.",
        "Set one up first: `backroom delivery add NAME --email --server HOST --user USER --from ADDRESS --to ADDRESS`.",
    )


def _like(kind: str, url: str, configured: Sequence[DeliverySettings]) -> DeliverySettings:
    """The address with the login of a configured place on the same server or bucket."""
    here = urlsplit(url)
    for each in configured:
        there = urlsplit(each.url or "")
        if each.kind == kind and (there.scheme, there.hostname) == (here.scheme, here.hostname):
            return DeliverySettings.model_validate({**each.stored(), "url": url})
    return DeliverySettings.model_validate({"name": kind, "kind": kind, "url": url})


def open_place(settings: DeliverySettings, environ: Mapping[str, str] = os.environ) -> Delivery:
    """The place behind the settings; connects to nothing. Libraries are imported when a place needs them."""
    secret = settings.secret(environ)
    if settings.kind == "email":
        from agent.delivery.mail import MailDelivery

        assert settings.server is not None
        assert settings.sender is not None
        return MailDelivery(
            server=settings.server,
            port=settings.port or _SMTP_PORTS[settings.security],
            security=settings.security,
            sender=settings.sender,
            to=settings.to,
            limit=settings.max_mb * 1_000_000,
            user=settings.user,
            password=secret,
        )
    if settings.kind == "folder":
        from agent.delivery.folder import FolderDelivery

        return FolderDelivery(Path(settings.path or ""))
    assert settings.url is not None
    if settings.kind == "smb":
        from agent.delivery.smb import PORT, SmbDelivery

        parts = urlsplit(settings.url)
        share, _, folder = unquote(parts.path).strip("/").partition("/")
        user = settings.user or parts.username
        return SmbDelivery(
            server=parts.hostname or "",
            share=share,
            folder=folder.strip("/"),
            user=f"{settings.domain}\\{user}" if settings.domain and user else user,
            password=secret,
            port=parts.port or PORT,
        )
    from agent.delivery.cloud import CloudDelivery

    options = {key: value.get_secret_value() for key, value in settings.options.items()}
    return CloudDelivery(settings.url, settings.user, secret, options)
