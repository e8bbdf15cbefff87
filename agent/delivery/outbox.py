"""What waits to be delivered: one folder per delivery under ``home/state/outbox``, kept over restarts.

Files and not a table of the history: the sealed file has to be kept too (sealing it anew would give other bytes, and
another try could no longer recognise the first), it must outlive a history that is kept elsewhere and cannot be
reached, and a lock that the system frees says truly whether somebody works on it. ``job.json`` is replaced whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.delivery.base import Parcel
from agent.delivery.errors import NoSuchJobError
from agent.locks import FileLock

WAITING, FAILED = "waiting", "failed"
STEPS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4))
GIVE_UP = timedelta(days=7)
JITTER = 0.2
_UNFINISHED_AGE = 86400.0


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery that waits. ``file`` is what is handed over: absolute, or a name beside ``job.json`` where it was
    sealed for this. ``place`` names a configured place or is an address (see ``find_place``; no secrets in it).
    ``state``: waiting (until ``next_at``) or failed (until somebody retries or removes it)."""

    id: str
    bundle_id: str | None
    place: str
    kind: str
    where: str
    file: str
    name: str
    size: int
    sha256: str
    sealed: str
    created: datetime
    queued_at: datetime
    next_at: datetime
    title: str
    lines: tuple[str, ...] = ()
    state: str = WAITING
    attempts: int = 0
    error_code: str | None = None
    error: str | None = None
    hint: str = field(default="")

    def public(self) -> dict[str, object]:
        """For showing to people and programs."""
        return {name: value for name, value in asdict(self).items() if name not in {"title", "lines"}}


class Outbox:
    """The queue in ``folder``. All methods block for moments: run them in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> tuple[str, Path]:
        """A new ID and its folder (mode 0700), into which a sealed file may be put before :meth:`add`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        job_id = secrets.token_hex(6)
        place = self.folder / job_id
        place.mkdir(mode=0o700)
        return job_id, place

    def discard(self, job_id: str) -> None:
        """Take back what :meth:`prepare` made."""
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def add(self, job: Job) -> Job:
        """Keep the job. From here on it survives a crash."""
        self._write(job)
        return job

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, the oldest first. Damaged entries are left out."""
        found = [job for path in self.folder.glob("*/job.json") if (job := _read(path)) is not None]
        return tuple(sorted(found, key=lambda job: (job.queued_at, job.id)))

    def find(self, text: str) -> Job:
        """The job by its ID or the first letters of it. Raises ``NoSuchJobError``."""
        fits = [job for job in self.jobs() if text and job.id.startswith(text)]
        if len(fits) != 1:
            raise NoSuchJobError(f"{'No' if not fits else 'More than one'} waiting delivery has the ID {text!r}.")
        return fits[0]

    def due(self, now: datetime) -> tuple[Job, ...]:
        """The jobs whose time has come."""
        return tuple(job for job in self.jobs() if job.state == WAITING and job.next_at <= now)

    def claim(self, job_id: str) -> FileLock | None:
        """The right to work on a job, until released or until the process dies; None where somebody else does."""
        place = self.folder / job_id
        if not place.is_dir():
            return None
        lock = FileLock(place / "lock")
        return lock if lock.try_acquire() else None

    def again(self, job_id: str) -> Job | None:
        """The job as it is now, None where it is done and gone."""
        return _read(self.folder / job_id / "job.json")

    def parcel(self, job: Job) -> Parcel:
        """What is to be handed over."""
        path = self.folder / job.id / job.file  # an absolute path stays what it is
        return Parcel(job.id, path, job.name, job.size, job.sha256, job.created, job.title, job.lines)

    def done(self, job: Job) -> None:
        """The job is delivered: forget it and its sealed file."""
        place = self.folder / job.id
        (place / "job.json").unlink(missing_ok=True)  # first: without it nobody takes the job up again
        shutil.rmtree(place, ignore_errors=True)

    def failed(self, job: Job, now: datetime, *, code: str, error: str, hint: str, temporary: bool) -> Job:
        """Note a failed try: later again where that may help, for a week; else it stays until somebody acts."""
        attempts = job.attempts + 1
        again = temporary and now - job.queued_at < GIVE_UP
        delay = STEPS[min(attempts, len(STEPS)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        job = replace(
            job,
            state=WAITING if again else FAILED,
            attempts=attempts,
            next_at=now + delay,
            error_code=code,
            error=error,
            hint=hint,
        )
        self._write(job)
        return job

    def retry(self, job: Job, now: datetime) -> Job:
        """Have it tried at once."""
        job = replace(job, state=WAITING, next_at=now)
        self._write(job)
        return job

    def sweep(self, now: datetime) -> None:
        """Remove what a process left that died before :meth:`add`, or in :meth:`done`, more than a day ago."""
        for place in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                old = place.stat().st_mtime < now.timestamp() - _UNFINISHED_AGE
                if place.is_dir() and old and not (place / "job.json").exists():
                    shutil.rmtree(place, ignore_errors=True)

    def _write(self, job: Job) -> None:
        place = self.folder / job.id
        temporary = place / f".job.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        values = {name: _plain(value) for name, value in asdict(job).items()}
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place / "job.json")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value


def _read(path: Path) -> Job | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not re.fullmatch(r"[0-9a-f]{12}", str(values["id"])) or values["id"] != path.parent.name:
            return None
        times: Mapping[str, datetime] = {
            name: datetime.fromisoformat(values[name]) for name in ("created", "queued_at", "next_at")
        }
        return Job(**{**values, **times, "lines": tuple(values["lines"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
