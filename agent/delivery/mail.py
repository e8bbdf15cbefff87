"""Email: one message with the file attached, over SMTP with TLS and login (aiosmtplib)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path

import aiosmtplib

from agent.delivery.base import Delivered, Kept, Parcel, Told, megabytes, silent
from agent.delivery.errors import (
    BadPlaceError,
    DeliveryError,
    LoginError,
    RejectedError,
    TooLargeError,
    UnreachableError,
)

CONNECT_SECONDS = 30.0
SLOWEST_BYTES_PER_SECOND = 20_000
_LINE = 76  # of base64, as the email package writes it: 57 bytes of the file
_HEAD_ROOM = 8_192
WAY_OUT = (
    "Send it to a network share or a cloud (`backroom delivery add`), push it to another laptop, "
    "or back up one business instead of all."
)


@dataclass(frozen=True, slots=True)
class MailDelivery:
    """Sends to ``to`` over ``server``. ``security`` is tls (from the first byte), starttls (required) or none.

    ``limit`` is the largest message in bytes, as encoded, that is tried at all. ``trust`` is the TLS context (the
    system's authorities by default).
    """

    server: str
    port: int
    security: str
    sender: str
    to: tuple[str, ...]
    limit: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    trust: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        return "email"

    @property
    def where(self) -> str:
        return ", ".join(self.to)

    def check_size(self, parcel: Parcel) -> None:
        """Base64 adds a third: what counts is the size of the message, known before it is made."""
        size = encoded_size(parcel.size)
        if size > self.limit:
            raise TooLargeError(
                f"{parcel.name} has {megabytes(parcel.size)}, as an email {megabytes(size)}: more than the "
                f"{megabytes(self.limit)} that {self.where} takes. Nothing was sent.",
                WAY_OUT,
            )

    async def check(self) -> str:
        """Connect, secure the connection, log in, and hang up."""
        async with self._connected() as smtp:
            limit = _announced(smtp)
            size = f", messages up to {megabytes(limit)}" if limit else ""
            return f"{self.server}:{self.port} takes {'the login' if self.user else 'the connection'}{size}."

    async def there(self) -> tuple[Kept, ...]:
        raise BadPlaceError(
            "What was mailed cannot be looked at from here.", "Save the attachment, and name that file."
        )

    async def fetch(self, name: str, target: Path, told: Told = silent) -> None:
        await self.there()

    async def deliver(self, parcel: Parcel, told: Told = silent) -> Delivered:
        """Send it; proved by the server's word that it has the whole message.

        The message has the same Message-ID at each try, so that mailboxes can tell a repeated one.
        """
        self.check_size(parcel)
        message = await asyncio.to_thread(self._message, parcel)
        if len(message) > self.limit:
            raise TooLargeError(f"The message has {megabytes(len(message))}. Nothing was sent.", WAY_OUT)
        told(0, parcel.size)
        async with self._connected() as smtp:
            limit = _announced(smtp)
            if limit and len(message) > limit:
                raise TooLargeError(
                    f"The message has {megabytes(len(message))}, more than the {megabytes(limit)} that {self.server} "
                    "takes. Nothing was sent.",
                    WAY_OUT,
                )
            patience = CONNECT_SECONDS + len(message) / SLOWEST_BYTES_PER_SECOND
            options = [f"size={len(message)}"] if limit is not None else []
            refused, _ = await smtp.sendmail(self.sender, self.to, message, mail_options=options, timeout=patience)
        if refused:
            who = ", ".join(f"{address} ({answer.code} {answer.message})" for address, answer in refused.items())
            raise RejectedError(f"The others have it, but {self.server} refused {who}.", "Correct the addresses.")
        told(parcel.size, parcel.size)
        return Delivered(self.where, f"accepted by {self.server}")

    def _message(self, parcel: Parcel) -> bytes:
        message = EmailMessage(policy=SMTP_POLICY)
        # Businesses and files may be named over several lines; a header may not.
        message["Subject"] = " ".join(parcel.title.splitlines())
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = format_datetime(parcel.created)
        message["Message-ID"] = f"<{parcel.key}@backroom.invalid>"
        lines = (*parcel.lines, f"File: {parcel.name}", f"SHA-256: {parcel.sha256}")
        message.set_content("\n".join(lines) + "\n")
        data = parcel.path.read_bytes()
        name = " ".join(parcel.name.splitlines())
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
        return message.as_bytes()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiosmtplib.SMTP]:
        smtp = aiosmtplib.SMTP(
            hostname=self.server,
            port=self.port,
            username=self.user,
            password=self.password,
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
            tls_context=(self.trust or ssl.create_default_context()) if self.security != "none" else None,
            timeout=CONNECT_SECONDS,
        )
        transport: asyncio.BaseTransport | None = None
        try:
            async with smtp:
                transport = smtp.transport
                yield smtp
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise self._failure(error) from error
        finally:
            # All has been said: a TLS connection that is only closed waits for the server's last word, for up to 30 s.
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    def _failure(self, error: Exception) -> DeliveryError:
        place = f"{self.server}:{self.port}"
        answers: list[tuple[int, str]] = []
        if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
            answers = [(each.code, each.message) for each in error.recipients]
        elif isinstance(error, aiosmtplib.SMTPResponseException):
            answers = [(error.code, error.message)]
        words = "; ".join(f"{code} {text}" for code, text in answers)
        if any(code >= 500 for code, _ in answers):
            if isinstance(error, aiosmtplib.SMTPAuthenticationError):
                return LoginError(f"{place} refuses the login of {self.user}: {words}.")
            if any(code == 552 for code, _ in answers):
                return TooLargeError(f"{place} takes no message of this size: {words}.", WAY_OUT)
            return RejectedError(f"{place} refuses the message: {words}.", "Correct the sender or the addresses.")
        if isinstance(error, ssl.SSLCertVerificationError) or isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return RejectedError(
                f"{place} shows a certificate that is not to be trusted: {error}.",
                "Check the server's name in the settings; do not send until this is right.",
            )
        if isinstance(error, aiosmtplib.SMTPNotSupported):
            return RejectedError(f"{place} cannot do what is needed: {error}.", "Check security and login settings.")
        return UnreachableError(f"{place}: {(words or str(error) or type(error).__name__).rstrip('.')}.")


def encoded_size(size: int) -> int:
    """The bytes of a message whose attachment has ``size`` bytes: base64 in lines, and room for the rest."""
    lines = -(-size // (_LINE * 3 // 4))
    return -(-size // 3) * 4 + 2 * lines + _HEAD_ROOM


def _announced(smtp: aiosmtplib.SMTP) -> int | None:
    """The largest message by the server's own word (RFC 1870): None unknown, 0 no limit."""
    if not smtp.supports_extension("size"):
        return None
    text = smtp.esmtp_extensions["size"].strip()
    return int(text) if text.isdigit() else 0
