"""Deliveries as operations: sealed unless said otherwise, queued over restarts, noted in the history; opened again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change, load
from agent.config_delivery import DeliverySettings
from agent.delivery.errors import BadPlaceError, NoSuchJobError, TooLargeError
from agent.delivery.outbox import FAILED, GIVE_UP, STEPS, WAITING, Outbox
from agent.home import Home
from agent.operations import posting
from agent.operations.deliveries import (
    Busy,
    DamagedBundle,
    DeliveryWaits,
    NoRecipient,
    add_place,
    deliver,
    drop,
    hand_over,
    queue_delivery,
    remove_place,
    retry,
)
from agent.operations.inspect import inspect_bundle
from agent.operations.keys import add_recipient, make_recovery_key, prove_recovery_key, remove_recipient, show, unlock
from agent.operations.posting import outbox, serve_outbox
from agent.operations.workspace import Workspace, utc_now
from agent.sealing.age import identities_in, is_sealed, new_identity
from agent.sealing.errors import KeyNeededError, WeakPassphraseError, WrongPassphraseError
from tests.support.archives import many, workspace_at
from tests.support.places import PASSWORD, USER, Mailbox, free_port

WORDS = "copper lantern violin harbour"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "home")


@pytest.fixture
async def history(workspace: Workspace) -> AsyncIterator[History]:
    async with workspace.history() as found:
        yield found


@pytest.fixture
async def record(workspace: Workspace, history: History) -> BackupRecord:
    return (await many(workspace, history, 1))[0]


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    folder.mkdir()
    return folder


def fresh(workspace: Workspace) -> Workspace:
    """As a process that was started anew sees the folder."""
    return Workspace(Home(workspace.home.path))


def read(workspace: Workspace, path: Path) -> bytes:
    with workspace.bundle_files.open(path) as file:
        return file.read()


class Killed(BaseException):
    pass


def killed(*_: object, **__: object) -> None:
    raise Killed


async def never(words: str) -> str:
    raise AssertionError(words)


async def test_nothing_leaves_unsealed_by_itself(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path
) -> None:
    path = workspace.archive.locate(record.path)
    with pytest.raises(NoRecipient) as caught:
        await deliver(workspace, history, path, f"path:{nas}")
    assert "backroom keys make" in caught.value.hint
    assert list(nas.iterdir()) == []
    assert list(outbox(workspace).folder.glob("*")) == []
    done = await deliver(workspace, history, path, f"path:{nas}", plain=True)
    assert done.job.sealed == "plain"
    assert (nas / path.name).read_bytes() == path.read_bytes()


async def test_sealed_to_the_recovery_key_and_to_others_and_opened_again(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path
) -> None:
    path = workspace.archive.locate(record.path)
    await make_recovery_key(workspace, WORDS)
    identity, recipient = new_identity()
    add_recipient(workspace, recipient)
    workspace = fresh(workspace)
    done = await deliver(workspace, history, path, f"path:{nas}")
    target = nas / f"{path.name}.age"
    assert done.as_dict()["where"] == str(target)
    assert is_sealed(target)
    assert pyrage.decrypt(target.read_bytes(), [pyrage.x25519.Identity.from_str(identity)]) == path.read_bytes()
    noted = await history.backup(record.id)
    assert noted is not None
    assert noted.network_path == str(target)
    assert noted.network_copied_at is not None
    assert outbox(workspace).jobs() == ()
    assert list(outbox(workspace).folder.iterdir()) == []

    async def ask(words: str) -> str:
        assert "recovery key" in words
        return WORDS

    await unlock(workspace, target, ask)
    seen = await inspect_bundle(workspace, target)
    assert seen.valid
    assert seen.manifest.bundle_id == record.id
    assert list(workspace.home.spool.iterdir()) == []

    async def wrong(words: str) -> str:
        return "something else"

    with pytest.raises(WrongPassphraseError):
        await unlock(fresh(workspace), target, wrong)


async def test_another_laptop_opens_it_with_the_kit_s_key_or_an_identity_file(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path, tmp_path: Path
) -> None:
    seen = await make_recovery_key(workspace, WORDS)
    path = workspace.archive.locate(record.path)
    identity, recipient = new_identity()
    add_recipient(workspace, recipient)
    await deliver(fresh(workspace), history, path, f"path:{nas}")
    target = nas / f"{path.name}.age"
    other = workspace_at(tmp_path / "other")
    with pytest.raises(KeyNeededError) as caught:
        await unlock(other, target, never)
    assert "--identity" in caught.value.hint

    async def ask(words: str) -> str:
        return WORDS

    await unlock(other, target, ask, identity=seen.file)
    assert read(other, target) == path.read_bytes()
    (tmp_path / "key.txt").write_text(f"# created by age-keygen\n{identity}\n")
    third = workspace_at(tmp_path / "third")
    await unlock(third, target, never, identity=tmp_path / "key.txt")
    assert read(third, target) == path.read_bytes()
    assert identities_in((tmp_path / "key.txt").read_text()) == (identity,)
    await unlock(third, path, never)
    assert read(third, path) == path.read_bytes()


async def test_sealed_by_passphrase(workspace: Workspace, history: History, record: BackupRecord, nas: Path) -> None:
    path = workspace.archive.locate(record.path)
    with pytest.raises(WeakPassphraseError):
        await deliver(workspace, history, path, f"path:{nas}", passphrase="short")
    await deliver(workspace, history, path, f"path:{nas}", passphrase=WORDS)

    async def ask(words: str) -> str:
        return WORDS

    await unlock(workspace, nas / f"{path.name}.age", ask)
    assert read(workspace, nas / f"{path.name}.age") == path.read_bytes()


async def test_keys_are_shown_proved_and_taken_away(workspace: Workspace) -> None:
    assert show(workspace).recovery is None
    assert show(workspace).archive is None
    change(workspace.home, encrypt_archive=True)
    assert fresh(workspace).bundle_files.encoder() is not None
    assert str(show(workspace).archive).startswith("age1")
    seen = await make_recovery_key(workspace, WORDS)
    assert await prove_recovery_key(workspace, WORDS) == seen.recovery
    recipient = new_identity()[1]
    assert add_recipient(workspace, recipient) == (recipient,)
    assert show(fresh(workspace)).others == (recipient,)
    assert remove_recipient(fresh(workspace), recipient) == ()


async def test_waits_over_restarts_and_is_worked_off_by_the_agent_without_a_copy(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_recovery_key(workspace, WORDS)
    path = workspace.archive.locate(record.path)
    nas.rmdir()  # not mounted
    with pytest.raises(DeliveryWaits) as caught:
        await deliver(workspace, history, path, f"path:{nas}")
    assert "backroom run" in caught.value.hint
    again = fresh(workspace)
    (job,) = outbox(again).jobs()
    assert (job.state, job.attempts, job.error_code) == (WAITING, 1, "unreachable")
    assert outbox(again).due(utc_now()) == ()
    sealed = outbox(again).parcel(job).path.read_bytes()
    with pytest.raises(DeliveryWaits):  # asked again: still one
        await deliver(again, history, path, f"path:{nas}")
    assert [each.id for each in outbox(again).jobs()] == [job.id]
    nas.mkdir()
    await retry(again, job.id[:4])
    monkeypatch.setattr(posting, "POLL_SECONDS", 0.05)
    serving = asyncio.create_task(serve_outbox(again))
    async with asyncio.timeout(10):
        while outbox(again).jobs():
            await asyncio.sleep(0.05)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert {path.name: path.read_bytes() for path in nas.iterdir()} == {f"{path.name}.age": sealed}
    noted = await history.backup(record.id)
    assert noted is not None
    assert noted.network_path == str(nas / f"{path.name}.age")


async def test_killed_between_the_delivery_and_its_note_makes_no_copy(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await queue_delivery(workspace, workspace.archive.locate(record.path), f"path:{nas}", plain=True)
    with monkeypatch.context() as patched:
        patched.setattr(History, "change_backup", killed)
        with pytest.raises(Killed):
            await hand_over(workspace, history, job)
    assert len(list(nas.iterdir())) == 1
    assert outbox(workspace).jobs() == (), "a mail could not be told from its copy: it is out of the queue first"
    with pytest.raises(Busy):
        await hand_over(fresh(workspace), history, job)
    assert len(list(nas.iterdir())) == 1


async def test_killed_before_it_is_out_of_the_queue_makes_no_copy_of_a_file(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await queue_delivery(workspace, workspace.archive.locate(record.path), f"path:{nas}", plain=True)
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "done", killed)
        with pytest.raises(Killed):
            await hand_over(workspace, history, job)
    assert len(list(nas.iterdir())) == 1
    posting._sent.clear()  # as a process that was started anew
    done = await hand_over(fresh(workspace), history, job)
    assert done.delivered is not None
    assert done.delivered.already
    assert len(list(nas.iterdir())) == 1


async def test_backoff_grows_then_gives_up_and_a_person_can_retry_or_drop(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path
) -> None:
    job = await queue_delivery(workspace, workspace.archive.locate(record.path), f"path:{nas}", plain=True)
    box = outbox(workspace)
    now = job.queued_at
    for step in (*STEPS, STEPS[-1]):
        job = box.failed(job, now, code="unreachable", error="gone", hint="", temporary=True)
        assert job.state == WAITING
        assert timedelta(0) < abs(job.next_at - now - step) + timedelta(1) <= step * 0.2 + timedelta(1)
        now = job.next_at
    job = box.failed(job, job.queued_at + GIVE_UP, code="unreachable", error="gone", hint="", temporary=True)
    assert job.state == FAILED
    assert box.due(now + timedelta(days=30)) == ()
    assert (await retry(workspace, job.id)).state == WAITING
    lock = box.claim(job.id)
    assert lock is not None
    with pytest.raises(Busy):
        await drop(workspace, job.id)
    with pytest.raises(Busy):
        await hand_over(workspace, history, job)
    lock.release()
    await drop(workspace, job.id)
    with pytest.raises(NoSuchJobError):
        await retry(workspace, job.id)


async def test_unfinished_folders_are_swept(workspace: Workspace) -> None:
    box = Outbox(workspace.home.state / "outbox")
    job_id, folder = box.prepare()
    (folder / "sealed").write_bytes(b"half")
    box.sweep(utc_now())
    assert folder.exists()
    box.sweep(utc_now() + timedelta(days=2))
    assert not folder.exists()
    assert box.claim(job_id) is None
    (box.folder / "abc").mkdir()
    (box.folder / "abc" / "job.json").write_text("{")
    assert box.jobs() == ()


async def test_a_damaged_bundle_is_not_delivered(
    workspace: Workspace, history: History, record: BackupRecord, nas: Path
) -> None:
    path = workspace.archive.locate(record.path)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedBundle):
        await deliver(workspace, history, path, f"path:{nas}", plain=True)
    assert list(nas.iterdir()) == []


async def test_email_to_real_servers_from_the_settings(
    workspace: Workspace, history: History, record: BackupRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_recovery_key(workspace, WORDS)
    folder = tmp_path / "mail"
    folder.mkdir()
    with Mailbox(folder) as box:
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
        monkeypatch.setenv("BACKROOM_DELIVERY_MAIL_PASSWORD", PASSWORD)
        place = DeliverySettings.model_validate(
            {"name": "mail", "kind": "email", "server": "localhost", "port": box.port, "user": USER}
            | {"sender": "shop@example.com", "to": ("owner@example.com",), "max_mb": 1}
        )
        add_place(workspace, place)
        workspace = fresh(workspace)
        path = workspace.archive.locate(record.path)
        await deliver(workspace, history, path, "mail")
        await deliver(workspace, history, path, "email:second@example.com")
        assert [letter["To"] for letter in box.letters] == ["owner@example.com", "second@example.com"]
        (attachment,) = box.letters[0].iter_attachments()
        assert attachment.get_filename() == f"{path.name}.age"
        noted = await history.backup(record.id)
        assert noted is not None
        assert noted.emailed_to == "owner@example.com, second@example.com"
        assert noted.emailed_at is not None
        big = tmp_path / "big.age"
        big.write_bytes(b"age-encryption.org/v1\n" + bytes(2_000_000))
        with pytest.raises(TooLargeError):
            await deliver(workspace, history, big, "mail")
        assert outbox(workspace).jobs() == ()
    assert remove_place(workspace, "MAIL").name == "mail"
    assert load(workspace.home).delivery == ()
    with pytest.raises(BadPlaceError, match="No mail server"):
        await deliver(fresh(workspace), history, path, "email:owner@example.com")


@pytest.mark.parametrize("to", ["nosuch", "smb://nas", "smb://u:pw@nas/share", "https://x/y", "s3:/x"])
async def test_addresses_that_are_none(workspace: Workspace, history: History, record: BackupRecord, to: str) -> None:
    with pytest.raises(BadPlaceError) as caught:
        await deliver(workspace, history, workspace.archive.locate(record.path), to, plain=True)
    assert "pw" not in str(caught.value)


async def test_a_login_is_taken_from_the_place_on_the_same_server(workspace: Workspace) -> None:
    from agent.delivery.places import find_place

    nas = DeliverySettings.model_validate(
        {"name": "nas", "kind": "smb", "url": f"smb://nas:{free_port()}/backups", "user": "clerk", "password": "pw"}
    )
    found = find_place("smb://nas/other/folder", [nas])
    assert (found.user, found.secret({}), found.url) == ("clerk", "pw", "smb://nas/other/folder")
    assert find_place("NAS", [nas]) is nas
