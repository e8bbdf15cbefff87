"""A network share spoken to directly (SMB 2 and 3, smbprotocol): temp name, flush, read back, rename."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import smbclient
from smbprotocol.exceptions import (
    AccessDenied,
    BadNetworkName,
    DiskFull,
    LogonFailure,
    SMBAuthenticationError,
    SMBException,
    SMBOSError,
)
from smbprotocol.header import NtStatus
from smbprotocol.tree import TreeConnect

from agent.delivery.base import (
    CHUNK,
    LOOK,
    Delivered,
    Kept,
    Parcel,
    Stop,
    Told,
    chunks,
    copied,
    digest,
    in_thread,
    is_backup,
    names,
    silent,
)
from agent.delivery.errors import (
    BadPlaceError,
    DeliveryError,
    LoginError,
    NoSpaceError,
    NotVerifiedError,
    RejectedError,
    UnreachableError,
)

PORT = 445
CONNECT_SECONDS = 15
_DENIED = {NtStatus.STATUS_ACCESS_DENIED, NtStatus.STATUS_PRIVILEGE_NOT_HELD, NtStatus.STATUS_LOGON_FAILURE}
_NOT_FOUND = {
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND,
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND,
    NtStatus.STATUS_NO_SUCH_FILE,
}


@dataclass(frozen=True, slots=True)
class SmbDelivery:
    """Delivers to ``share`` of ``server``, into ``folder`` (parts joined by /, made where missing; may be empty).

    Messages are signed; with ``encrypt`` the connection is encrypted too and a server that cannot is refused.
    """

    server: str
    share: str
    folder: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    port: int = PORT
    encrypt: bool = False

    @property
    def kind(self) -> str:
        return "smb"

    @property
    def where(self) -> str:
        port = "" if self.port == PORT else f":{self.port}"
        return "/".join(part for part in (f"smb://{self.server}{port}", self.share, self.folder) if part)

    def check_size(self, parcel: Parcel) -> None:
        """A share takes any size; whether it is full is found when writing."""

    async def check(self) -> str:
        """Log in, write a small file, read it and remove it."""

        def work(stop: Stop) -> str:
            with self._session() as session:
                self._make_folder(session)
                probe = self._path(".backroom-probe.partial")
                with smbclient.open_file(probe, mode="wb", **session) as file:
                    file.write(b"probe")
                with smbclient.open_file(probe, mode="rb", **session) as file:
                    good = file.read() == b"probe"
                smbclient.remove(probe, **session)
            if not good:
                raise NotVerifiedError(f"{self.where} does not give back what is written there.")
            return f"{self.where} can be written."

        return await in_thread(work)

    async def there(self) -> tuple[Kept, ...]:
        def work(stop: Stop) -> tuple[Kept, ...]:
            with self._session() as session:
                try:
                    found = list(smbclient.scandir(self._path(""), **session))
                except SMBOSError as error:
                    if error.ntstatus in _NOT_FOUND:
                        raise BadPlaceError(f"{self.where} is not there.", "Correct the address.") from None
                    raise
                # What the listing told: `each.stat()` would ask anew, over a connection of its own.
                kept = [Kept(each.name, each.smb_info.end_of_file) for each in found if is_backup(each.name)]
            return tuple(sorted(kept, key=lambda each: each.name))

        return await in_thread(work)

    async def fetch(self, name: str, target: Path, told: Told = silent) -> None:
        def work(stop: Stop) -> None:
            with self._session() as session:
                try:
                    size = smbclient.stat(self._path(name), **session).st_size
                except SMBOSError as error:
                    if error.ntstatus in _NOT_FOUND:
                        raise BadPlaceError(f"{self.where} has no file {name}.", LOOK) from None
                    raise
                with smbclient.open_file(self._path(name), mode="rb", buffering=CHUNK, **session) as file:
                    with target.open("xb") as copy:
                        copied(file, copy, size, told, stop)

        return await in_thread(work)

    async def deliver(self, parcel: Parcel, told: Told = silent) -> Delivered:
        def work(stop: Stop) -> Delivered:
            with self._session() as session:
                return self._deliver(session, parcel, told, stop)

        return await in_thread(work)

    def _deliver(self, session: dict[str, Any], parcel: Parcel, told: Told, stop: Stop) -> Delivered:
        self._make_folder(session)
        name, already = self._target(session, parcel, stop)
        if already:
            return Delivered(f"{self.where}/{name}", "sha256 read back", already=True)
        partial = self._path(f".backroom-{parcel.key}.partial")
        try:
            self._copy(session, parcel, partial, told, stop)
            if self._digest(session, partial, stop) != parcel.sha256:
                raise NotVerifiedError(f"What was written to {self.where} reads back differently.")
            smbclient.rename(partial, self._path(name), **session)
        except BaseException:
            self._remove(session, partial)
            raise
        if smbclient.stat(self._path(name), **session).st_size != parcel.size:
            raise NotVerifiedError(f"{self.where}/{name} has another size than what was sent.")
        return Delivered(f"{self.where}/{name}", "sha256 read back")

    def _target(self, session: dict[str, Any], parcel: Parcel, stop: Stop) -> tuple[str, bool]:
        """The first name that is free, or under which this very file is already."""
        for name in names(parcel.name):
            try:
                size = smbclient.stat(self._path(name), **session).st_size
            except SMBOSError as error:
                if error.ntstatus in _NOT_FOUND:
                    return name, False
                raise
            if size == parcel.size and self._digest(session, self._path(name), stop) == parcel.sha256:
                return name, True
        raise RejectedError(f"{self.where} has too many files named like {parcel.name}.", "Clear that folder up.")

    def _copy(self, session: dict[str, Any], parcel: Parcel, partial: str, told: Told, stop: Stop) -> None:
        done, sent = 0, hashlib.sha256()
        with parcel.path.open("rb") as source:
            with smbclient.open_file(partial, mode="wb", buffering=CHUNK, **session) as file:
                for data in chunks(source, stop):
                    file.write(data)
                    sent.update(data)
                    done += len(data)
                    told(done, parcel.size)
                file.flush()
                file.raw.fd.flush()  # SMB2 FLUSH: the server writes to its disk
        if sent.hexdigest() != parcel.sha256:
            raise RejectedError(f"{parcel.path} has changed since it was queued.", "Deliver the backup anew.")

    def _digest(self, session: dict[str, Any], path: str, stop: Stop) -> str:
        with smbclient.open_file(path, mode="rb", buffering=CHUNK, **session) as file:
            return digest(file, stop)

    def _make_folder(self, session: dict[str, Any]) -> None:
        if self.folder:
            smbclient.makedirs(self._path(""), exist_ok=True, **session)

    def _remove(self, session: dict[str, Any], path: str) -> None:
        try:
            smbclient.remove(path, **session)
        except (SMBException, OSError, ValueError):
            return  # the next try writes over it

    def _path(self, name: str) -> str:
        return "\\".join(part for part in (rf"\\{self.server}", self.share, *self.folder.split("/"), name) if part)

    @contextmanager
    def _session(self) -> Iterator[dict[str, Any]]:
        """A connection of this delivery's own: the options for smbclient's calls. Closed on the way out."""
        cache: dict[str, Any] = {}
        options = {
            "username": self.user,
            "password": self.password,
            "port": self.port,
            "connection_timeout": CONNECT_SECONDS,
            "connection_cache": cache,
            "encrypt": True if self.encrypt else None,
        }
        try:
            session = smbclient.register_session(self.server, **options)
            # smbclient would take a share that is not there for a DFS name and ask for it without end.
            TreeConnect(session, rf"\\{self.server}\{self.share}").connect()
            yield options
        except (SMBException, OSError, ValueError) as error:
            raise self._failure(error) from error
        finally:
            for connection in cache.values():
                for each in connection.session_table.values():
                    for handle in each.open_table.values():
                        # What a broken connection left open is closed with it; smbprotocol would complain for ever.
                        handle._connected = False
                try:
                    connection.disconnect(close=connection.transport.connected)
                except Exception:  # noqa: S112 - a connection that is broken need not be closed well
                    continue

    def _failure(self, error: Exception) -> DeliveryError:
        status = getattr(error, "ntstatus", getattr(error, "status", None))
        if isinstance(error, (SMBAuthenticationError, LogonFailure, AccessDenied)) or status in _DENIED:
            return LoginError(f"{self.where} refuses {self.user or 'this user'}: wrong password or no right to write.")
        if isinstance(error, BadNetworkName):
            return BadPlaceError(f"{self.server} has no share {self.share!r}.", "Correct the url of the place.")
        if isinstance(error, DiskFull) or status == NtStatus.STATUS_DISK_FULL:
            return NoSpaceError(f"{self.where} is full.")
        return UnreachableError(f"{self.where}: {_first_line(error)}.")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
