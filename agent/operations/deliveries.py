"""Delivering a bundle to a place outside the shop's laptops: seal, queue, hand over, prove, remember."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change
from agent.config_delivery import DeliverySettings
from agent.delivery.base import Delivered, Told
from agent.delivery.errors import BadPlaceError, DeliveryError
from agent.delivery.outbox import WAITING, Job, Outbox
from agent.delivery.places import find_place, open_place
from agent.engine.progress import BYTES, Progress, Step, silent
from agent.log import get_logger
from agent.operations.errors import OperationError
from agent.operations.inspect import inspect_bundle
from agent.operations.keys import NoRecipient, recipients_for
from agent.operations.passphrases import check
from agent.operations.posting import finish, outbox, was_sent
from agent.operations.workspace import Workspace, utc_now
from agent.reading import size_of
from agent.sealing.age import SUFFIX, Lock, is_sealed, seal_file
from protocol.manifest import Manifest

log = get_logger(__name__)


class DamagedBundle(OperationError):
    code = "damaged-bundle"
    hint = "`backroom verify` checks the archive. Deliver another bundle."


class DeliveryWaits(OperationError):
    """The place could not be reached: the delivery is queued, and its message says why."""

    code = "delivery-waits"


class Busy(OperationError):
    code = "delivery-busy"
    hint = "`backroom delivery queue` shows how it goes on."


@dataclass(frozen=True, slots=True)
class DeliveryDone:
    """A delivery that is proved (``delivered``), or one that waits in the queue."""

    job: Job
    delivered: Delivered | None

    def as_dict(self) -> dict[str, object]:
        found = self.delivered
        return {
            "id": self.job.id,
            "state": "delivered" if found else self.job.state,
            "kind": self.job.kind,
            "where": found.where if found else self.job.where,
            "bundle_id": self.job.bundle_id,
            "name": self.job.name,
            "bytes": self.job.size,
            "sha256": self.job.sha256,
            "sealed": self.job.sealed,
            "proof": found.proof if found else None,
            "already": found.already if found else False,
        }


async def queue_delivery(
    workspace: Workspace,
    path: Path,
    to: str,
    *,
    plain: bool = False,
    passphrase: str | None = None,
    progress: Progress = silent,
) -> Job:
    """Check the bundle, seal it, and keep it in the queue. Says before that what would be too large.

    Sealed to the place's recipients, else the shop's; by ``passphrase`` where one is given; not at all where ``plain``
    or where the file was sealed elsewhere. A bundle of a sealed archive is sealed anew, for who may open it there. The
    same delivery that waits already is taken up again.
    Raises :class:`NoRecipient`, ``DeliveryError``, ``SealingError``.
    """
    settings = find_place(to, workspace.config.delivery)
    place = open_place(settings)
    box = outbox(workspace)
    opens = await asyncio.to_thread(workspace.bundle_files.opens, path)
    in_archive_seal = opens and await asyncio.to_thread(is_sealed, path)
    sealed_already = not opens
    manifest = None if sealed_already else await _manifest(workspace, path)
    lock = None
    if not sealed_already and not plain and not (settings.plain and passphrase is None):
        recipients = () if passphrase else await asyncio.to_thread(recipients_for, workspace, settings)
        if not recipients and not passphrase:
            raise NoRecipient
        lock = Lock(recipients, check(passphrase) if passphrase else None)
    sealed = lock.describe() if lock else "sealed before" if sealed_already else "plain"
    if manifest is not None and passphrase is None:
        for waiting in await asyncio.to_thread(box.jobs):  # asked again: the same delivery, not a second copy
            same = (waiting.bundle_id, waiting.place, waiting.sealed) == (manifest.bundle_id, to, sealed)
            if same and not was_sent(box, waiting):
                return await asyncio.to_thread(box.retry, waiting, utc_now())
    job_id, folder = await asyncio.to_thread(box.prepare)
    try:
        name = (path.name.removesuffix(SUFFIX) if in_archive_seal else path.name) + (SUFFIX if lock else "")
        path = await asyncio.to_thread(path.absolute)
        file, opener = path, workspace.bundle_files.open
        if lock is not None or in_archive_seal:
            file = folder / ("sealed" if lock else "plain")
            size = await asyncio.to_thread(size_of, path, opener)
            await seal_file(
                path, file, lock, lambda done: progress(Step("sealing", done, size, path.name, BYTES)), opener=opener
            )
        now = utc_now()
        job = Job(
            id=job_id,
            bundle_id=manifest.bundle_id if manifest else None,
            place=to,
            kind=place.kind,
            where=place.where,
            file=file.name if file.parent == folder else str(file),
            name=name,
            size=(await asyncio.to_thread(file.stat)).st_size,
            sha256=await workspace.archive.checksum(file),
            sealed=sealed,
            created=manifest.created if manifest else now,
            queued_at=now,
            next_at=now,
            title=_title(manifest) if manifest else f"Backup {path.name}",
            lines=_lines(manifest, sealed=lock is not None) if manifest else (),
        )
        place.check_size(box.parcel(job))
        return await asyncio.to_thread(box.add, job)
    except BaseException:
        await asyncio.to_thread(box.discard, job_id)
        raise


async def hand_over(workspace: Workspace, history: History, job: Job, *, progress: Progress = silent) -> DeliveryDone:
    """Try to deliver now. Delivered: out of the queue, and noted in the history as far as that can be written.

    Raises :class:`DeliveryWaits` where it will be tried again by itself, the ``DeliveryError`` itself where not, and
    :class:`Busy` where another process is at it.
    """
    box = outbox(workspace)
    lock = await asyncio.to_thread(box.claim, job.id)
    if lock is None:
        raise Busy(f"Delivery {job.id} is being worked on by another process.")
    try:
        current = await asyncio.to_thread(box.again, job.id)
        if current is None or was_sent(box, current):
            raise Busy(f"Delivery {job.id} was done by another process.")
        told = _telling(progress, current.name)
        try:
            place = open_place(find_place(current.place, workspace.config.delivery))
            delivered = await place.deliver(box.parcel(current), told)
        except DeliveryError as error:
            await _note_failure(box, current, error)
            raise
        except OSError as error:
            reason = DeliveryError(f"{current.name} cannot be read: {error.strerror}.", "Deliver the backup anew.")
            await _note_failure(box, current, reason)
            raise reason from error
        # First: a note that fails must not have it sent again.
        await finish(box, current)
        try:
            await _note(history, current, delivered)
        except (ArchiveError, OSError) as error:
            log.warning("delivered, but not noted", id=current.id, bundle=current.bundle_id, reason=str(error))
        return DeliveryDone(current, delivered)
    finally:
        await asyncio.to_thread(lock.release)


async def _note_failure(box: Outbox, job: Job, error: DeliveryError) -> None:
    after = await asyncio.to_thread(
        lambda: box.failed(
            job, utc_now(), code=error.code, error=str(error), hint=error.hint, temporary=error.temporary
        )
    )
    log.warning(
        "delivery failed", id=job.id, kind=job.kind, code=error.code, attempts=after.attempts, state=after.state
    )
    if after.state == WAITING:
        raise DeliveryWaits(
            f"{error} The delivery waits as {job.id}.",
            "The running agent (`backroom run`) tries it again; `backroom delivery queue` shows it.",
        ) from error


async def deliver(
    workspace: Workspace,
    history: History,
    path: Path,
    to: str,
    *,
    plain: bool = False,
    passphrase: str | None = None,
    only_queue: bool = False,
    progress: Progress = silent,
) -> DeliveryDone:
    """Seal, queue and hand over a bundle; ``only_queue`` leaves the last to the running agent.

    Who cancels this takes the delivery back: it is out of the queue again, unless it waited there before.
    """
    asked = utc_now()
    job = await queue_delivery(workspace, path, to, plain=plain, passphrase=passphrase, progress=progress)
    if only_queue:
        return DeliveryDone(job, None)
    try:
        return await hand_over(workspace, history, job, progress=progress)
    except asyncio.CancelledError:
        if job.queued_at >= asked:
            outbox(workspace).done(job)
        raise


async def _note(history: History, job: Job, delivered: Delivered) -> None:
    """Write into the bundle's record where it went. A bundle that the history does not know has none."""
    record = await history.backup(job.bundle_id) if job.bundle_id else None
    if record is None:
        return
    now = utc_now()
    changes: dict[str, object]
    if job.kind == "email":
        changes = {"emailed_to": _joined(record, delivered.where), "emailed_at": now}
    elif job.kind == "cloud":
        changes = {"cloud_location": delivered.where, "cloud_copied_at": now}
    else:
        changes = {"network_path": delivered.where, "network_copied_at": now}
    await history.change_backup(record.id, **changes)


def _joined(record: BackupRecord, addresses: str) -> str:
    """All addresses that have it, each once."""
    before = record.emailed_to.split(", ") if record.emailed_to else []
    return ", ".join(dict.fromkeys([*before, *addresses.split(", ")]))


async def retry(workspace: Workspace, text: str) -> Job:
    """Have a waiting or failed delivery tried at once by the running agent. Raises ``NoSuchJobError``."""
    box = outbox(workspace)
    return await asyncio.to_thread(lambda: box.retry(box.find(text), utc_now()))


async def drop(workspace: Workspace, text: str) -> Job:
    """Take a delivery out of the queue. Raises ``NoSuchJobError`` and :class:`Busy`."""
    box = outbox(workspace)
    job = await asyncio.to_thread(box.find, text)
    lock = await asyncio.to_thread(box.claim, job.id)
    if lock is None:
        raise Busy(f"Delivery {job.id} is being worked on.")
    try:
        await asyncio.to_thread(box.done, job)
    finally:
        await asyncio.to_thread(lock.release)
    return job


def add_place(workspace: Workspace, settings: DeliverySettings) -> None:
    """Keep a place in the settings; one of the same name is replaced. Blocking."""
    others = tuple(each for each in workspace.config.delivery if each.name.lower() != settings.name.lower())
    change(workspace.home, delivery=(*others, settings))


def remove_place(workspace: Workspace, name: str) -> DeliverySettings:
    """Take a place out of the settings. Blocking. Raises ``BadPlaceError``."""
    found = [each for each in workspace.config.delivery if each.name.lower() == name.lower()]
    if not found:
        raise BadPlaceError(f"There is no place named {name!r}.")
    change(workspace.home, delivery=tuple(each for each in workspace.config.delivery if each not in found))
    return found[0]


async def try_place(workspace: Workspace, text: str) -> str:
    """Connect to a place without delivering; what was found. Raises ``DeliveryError``."""
    return await open_place(find_place(text, workspace.config.delivery)).check()


async def _manifest(workspace: Workspace, path: Path) -> Manifest:
    """What the bundle is; only whole ones are delivered."""
    seen = await inspect_bundle(workspace, path)
    if not seen.valid:
        raise DamagedBundle(f"{path.name} is damaged and was not delivered: {seen.problem}")
    return seen.manifest


def _title(manifest: Manifest) -> str:
    what = manifest.business.name if manifest.business else manifest.kind.value
    return f"Backup of {what}, {manifest.created:%Y-%m-%d %H:%M} UTC"


def _lines(manifest: Manifest, *, sealed: bool) -> tuple[str, ...]:
    how = "It is sealed with age: `backroom inspect FILE` asks for what opens it." if sealed else "It is not sealed."
    return (
        f"Made on {manifest.source_device} at {manifest.created:%Y-%m-%d %H:%M:%S} UTC.",
        f"{manifest.total_rows:,} rows of {manifest.table_count} tables. Restore it with `backroom restore FILE`.",
        how,
    )


def _telling(progress: Progress, name: str) -> Told:
    loop = asyncio.get_running_loop()

    def told(done: int, total: int) -> None:
        loop.call_soon_threadsafe(progress, Step("delivering", done, total, name, BYTES))

    return told
