"""A cloud's object store (S3 and what speaks it, Google, Azure) by obstore.

An object appears whole or not at all. Afterwards its size and its ETag are compared with what was sent; where the ETag
is no MD5 (Azure, encrypted buckets), the object is read back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from io import RawIOBase
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import from_url

from agent.delivery.base import LOOK, Delivered, Kept, Parcel, Stop, Told, in_thread, is_backup, names, silent
from agent.delivery.errors import (
    BadPlaceError,
    DeliveryError,
    LoginError,
    NotVerifiedError,
    RejectedError,
    UnreachableError,
)

PART = 8 << 20  # S3 allows 10,000 parts: files up to 80 GB
AT_ONCE = 4
REQUEST_SECONDS = 300
_RETRY: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
_LOGINS = {"s3": ("access_key_id", "secret_access_key"), "az": ("account_name", "account_key")}


@dataclass(frozen=True, slots=True)
class CloudDelivery:
    """Delivers to ``url`` (``s3://bucket/folder``, ``gs://``, ``az://account/container``).

    ``user`` and ``password`` are the two halves of the place's key; ``options`` are obstore's own, ``endpoint`` and
    ``region`` for example. Without them obstore takes the usual environment variables (``AWS_...``).
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        return "cloud"

    @property
    def where(self) -> str:
        return self.url.rstrip("/")

    def check_size(self, parcel: Parcel) -> None:
        """Up to 10,000 parts are allowed."""
        if parcel.size > PART * 10_000:
            raise RejectedError(f"{parcel.name} is larger than {self.where} takes.", "Back up one business at a time.")

    async def check(self) -> str:
        """Write a small object, read it and remove it."""
        try:
            store, name = self._store(), ".backroom-probe"
            await obstore.put_async(store, name, b"probe")
            good = bytes(await (await obstore.get_async(store, name)).bytes_async()) == b"probe"
            await obstore.delete_async(store, name)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from error
        if not good:
            raise NotVerifiedError(f"{self.where} does not give back what is written there.")
        return f"{self.where} can be written."

    async def deliver(self, parcel: Parcel, told: Told = silent) -> Delivered:
        """Upload it under the first name that nothing else has."""
        sums = await in_thread(lambda stop: _sums(parcel, stop))
        try:
            store = self._store()
            for name in names(parcel.name):
                there = await self._head(store, name)
                if there is None:
                    break
                if there["size"] == parcel.size and (proof := await self._proved(store, name, there, parcel, sums)):
                    return Delivered(f"{self.where}/{name}", proof, already=True)
            else:
                raise RejectedError(f"{self.where} has too many objects named like {parcel.name}.", "Clear it up.")
            await self._put(store, name, parcel, told)
            there = await self._head(store, name)
            proof = await self._proved(store, name, there, parcel, sums) if there else ""
            if not proof:
                await obstore.delete_async(store, name)
                raise NotVerifiedError(f"What is in {self.where}/{name} is not what was sent; it was removed again.")
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from error
        return Delivered(f"{self.where}/{name}", proof)

    async def there(self) -> tuple[Kept, ...]:
        found: list[Kept] = []
        try:
            async for batch in obstore.list(self._store()):
                found += [Kept(each["path"], each["size"]) for each in batch if is_backup(each["path"])]
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from error
        return tuple(sorted((each for each in found if "/" not in each.name), key=lambda each: each.name))

    async def fetch(self, name: str, target: Path, told: Told = silent) -> None:
        store = self._store()
        try:
            there = await self._head(store, name)
            if there is None:
                raise BadPlaceError(f"{self.where} has no object {name}.", LOOK)
            done = 0
            with await asyncio.to_thread(target.open, "xb") as copy:
                async for data in (await obstore.get_async(store, name)).stream(min_chunk_size=1 << 20):
                    await asyncio.to_thread(copy.write, bytes(data))
                    done += len(data)
                    told(done, there["size"])
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._failure(error) from error

    async def _put(self, store: Any, name: str, parcel: Parcel, told: Told) -> None:
        if parcel.size <= PART:
            told(0, parcel.size)
            await obstore.put_async(store, name, parcel.path, use_multipart=False)
            told(parcel.size, parcel.size)
            return
        with parcel.path.open("rb", buffering=0) as file:  # read by obstore, in a thread of its own
            told_of: Any = _Told(file, parcel.size, told)
            await obstore.put_async(store, name, told_of, use_multipart=True, chunk_size=PART, max_concurrency=AT_ONCE)

    async def _head(self, store: Any, name: str) -> Any:
        try:
            return await obstore.head_async(store, name)
        except (exceptions.NotFoundError, FileNotFoundError):
            return None

    async def _proved(self, store: Any, name: str, there: Any, parcel: Parcel, sums: _Sums) -> str:
        """How it was seen that the object is the parcel; empty where it is not."""
        if there["size"] != parcel.size:
            return ""
        etag = (there["e_tag"] or "").strip('"').lower()
        if etag in (sums.whole, sums.parts):
            return "size and ETag"
        found = hashlib.sha256()
        async for data in (await obstore.get_async(store, name)).stream(min_chunk_size=1 << 20):
            await asyncio.to_thread(found.update, bytes(data))
        return "sha256 read back" if found.hexdigest() == parcel.sha256 else ""

    def _store(self) -> Any:
        scheme = self.url.partition("://")[0]
        login = zip(_LOGINS.get(scheme, ("", "service_account_key")), (self.user, self.password), strict=True)
        config = {key: value for key, value in self.options.items() if key != "allow_http"}
        config |= {key: value for key, value in login if key and value is not None}
        client: Any = {
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=15),
            "allow_http": self.options.get("allow_http", "").lower() == "true",
        }
        try:
            return from_url(self.url, config=config or None, client_options=client, retry_config=_RETRY)  # type: ignore[arg-type]
        except (exceptions.BaseError, ValueError) as error:
            raise BadPlaceError(f"{self.where} cannot be used: {_words(error)}.") from None
        except BaseException as error:
            # obstore panics at options that are its HTTP client's own, and what it raises then is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            named = ", ".join(sorted(self.options))
            raise BadPlaceError(
                f"{self.where} cannot be used: one of its options ({named}) is none of a store.",
                "Leave out what is about the connection, such as timeout or proxy_url.",
            ) from None

    def _failure(self, error: Exception) -> DeliveryError:
        if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)):
            return LoginError(f"{self.where} refuses the key, or it may not write there.")
        text = str(error)
        if "InvalidAccessKeyId" in text or "SignatureDoesNotMatch" in text:
            return LoginError(f"{self.where} refuses the key.")
        if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)) or "NoSuchBucket" in text:
            return BadPlaceError(f"{self.where} is not there.", "Make the bucket first, or correct the url.")
        return UnreachableError(f"{self.where}: {_words(error)}.")


@dataclass(frozen=True, slots=True)
class _Sums:
    """The ETags that S3 gives a file: its MD5, or the MD5 of its parts' MD5s with their number."""

    whole: str
    parts: str


def _sums(parcel: Parcel, stop: Stop) -> _Sums:
    found, whole = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    parts: list[bytes] = []
    with parcel.path.open("rb") as file:
        while data := file.read(PART):
            stop.check()
            found.update(data)
            whole.update(data)
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    if found.hexdigest() != parcel.sha256:
        raise RejectedError(f"{parcel.path} has changed since it was queued.", "Deliver the backup anew.")
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return _Sums(whole.hexdigest(), f"{joined}-{len(parts)}")


class _Told:
    """A file that tells how far it was read."""

    def __init__(self, file: RawIOBase, size: int, told: Told) -> None:
        self._file = file
        self._size = size
        self._told = told

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size) or b""
        self._told(min(self._file.tell(), self._size), self._size)
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


def _words(error: Exception) -> str:
    """obstore's errors are long: the first line, without the dump behind it."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return first[:300].rstrip(".:, ")
