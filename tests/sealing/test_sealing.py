"""Sealed files: both ways with pyrage (an independent age), streamed, every byte counts."""

from __future__ import annotations

import asyncio
import io
import os
import tracemalloc
from pathlib import Path

import pyrage
import pytest

from agent.sealing import passphrase as scrypt
from agent.sealing.age import (
    Keys,
    Lock,
    check_recipient,
    identities_in,
    is_sealed,
    needs_passphrase,
    new_identity,
    seal,
    seal_file,
    unseal,
    unseal_file,
)
from agent.sealing.errors import (
    BadKeyError,
    DamagedSealError,
    KeyExistsError,
    KeyNeededError,
    NotSealedError,
    SealingError,
    WeakPassphraseError,
    WrongKeyError,
    WrongPassphraseError,
)
from agent.sealing.recovery import RecoveryKey

WORDS = "correct horse battery staple"
SIZES = [0, 1, scrypt.BLOCK - 1, scrypt.BLOCK, scrypt.BLOCK + 1, 3 * scrypt.BLOCK]


def by_words(data: bytes, work: int = 10) -> bytes:
    return b"".join(scrypt.sealed_blocks(io.BytesIO(data).read, WORDS, work=work))


def opened(data: bytes, keys: Keys) -> bytes:
    out = io.BytesIO()
    unseal(io.BytesIO(data), out, keys)
    return out.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_what_we_seal_by_passphrase_another_age_opens(size: int) -> None:
    data = os.urandom(size)
    assert pyrage.passphrase.decrypt(by_words(data), WORDS) == data


@pytest.mark.parametrize("size", SIZES)
def test_what_we_seal_by_passphrase_we_open(size: int) -> None:
    data = os.urandom(size)
    assert opened(by_words(data), Keys(passphrase=WORDS)) == data


def test_what_another_age_seals_by_passphrase_we_open() -> None:
    data = os.urandom(100_000)
    assert opened(pyrage.passphrase.encrypt(data, WORDS), Keys(passphrase=WORDS)) == data


@pytest.mark.parametrize("size", SIZES)
def test_recipients_both_ways(size: int) -> None:
    data = os.urandom(size)
    identity, recipient = new_identity()
    sealed = io.BytesIO()
    seal(io.BytesIO(data), sealed, Lock((recipient, new_identity()[1])))
    assert pyrage.decrypt(sealed.getvalue(), [pyrage.x25519.Identity.from_str(identity)]) == data
    assert opened(sealed.getvalue(), Keys((new_identity()[0], identity))) == data


def test_a_wrong_passphrase_and_a_wrong_key_have_words() -> None:
    with pytest.raises(WrongPassphraseError):
        opened(by_words(b"x"), Keys(passphrase="another"))
    sealed = io.BytesIO()
    seal(io.BytesIO(b"x"), sealed, Lock((new_identity()[1],)))
    with pytest.raises(WrongKeyError):
        opened(sealed.getvalue(), Keys((new_identity()[0],)))
    with pytest.raises(KeyNeededError):
        opened(sealed.getvalue(), Keys(passphrase=WORDS))
    with pytest.raises(KeyNeededError):
        opened(by_words(b"x"), Keys((new_identity()[0],)))
    with pytest.raises(KeyNeededError):
        Lock()


@pytest.mark.parametrize("kind", ["passphrase", "recipient"])
def test_every_cut_and_every_flipped_byte_is_seen(kind: str) -> None:
    identity, recipient = new_identity()
    data = os.urandom(scrypt.BLOCK + 50)
    if kind == "passphrase":
        sealed = by_words(data, work=2)
    else:
        out = io.BytesIO()
        seal(io.BytesIO(data), out, Lock((recipient,)))
        sealed = out.getvalue()
    keys = Keys((identity,), WORDS)
    body = sealed.index(b"\n--- ")
    places = [*range(0, body + 120, 3), *range(body + 120, len(sealed), 997), len(sealed) - 1]
    for place in places:
        # A flip in the work factor may ask for up to 2^22: the regular expression and the limit hold it.
        if sealed[place : place + 1].isdigit() and sealed[place - 1 : place] == b" ":
            continue
        flipped = bytearray(sealed)
        flipped[place] ^= 1
        with pytest.raises(SealingError):
            opened(bytes(flipped), keys)
        with pytest.raises(SealingError):
            opened(sealed[:place], keys)
    with pytest.raises(DamagedSealError):
        opened(sealed + b"x", keys)


def test_no_file_can_ask_for_endless_work() -> None:
    asked = by_words(b"x", work=2).replace(b" 2\n", b" 30\n", 1)
    with pytest.raises(NotSealedError, match="2\\^30"):
        opened(asked, Keys(passphrase=WORDS))


def test_sealing_by_passphrase_holds_a_block_or_two_in_memory() -> None:
    left = 64 << 20

    def read(size: int) -> bytes:
        nonlocal left
        size = min(size, left)
        left -= size
        return bytes(size)

    tracemalloc.start()
    total = sum(len(piece) for piece in scrypt.sealed_blocks(read, WORDS, work=2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 64 << 20
    assert peak < 2 << 20


async def test_files_are_whole_private_or_not_there(tmp_path: Path) -> None:
    plain, sealed, back = tmp_path / "a", tmp_path / "a.age", tmp_path / "b"
    plain.write_bytes(os.urandom(300_000))
    identity, recipient = new_identity()
    told: list[int] = []
    await seal_file(plain, sealed, Lock((recipient,)), told.append)
    assert told[-1] == 300_000
    assert is_sealed(sealed)
    assert not needs_passphrase(sealed)
    assert not is_sealed(plain)
    if os.name == "posix":
        assert sealed.stat().st_mode & 0o777 == 0o600
    await unseal_file(sealed, back, Keys((identity,)))
    assert back.read_bytes() == plain.read_bytes()
    with pytest.raises(FileExistsError):
        await unseal_file(sealed, back, Keys((identity,)))
    assert back.exists()
    sealed.write_bytes(sealed.read_bytes()[:-1])
    with pytest.raises(DamagedSealError):
        await unseal_file(sealed, tmp_path / "c", Keys((identity,)))
    assert not (tmp_path / "c").exists()


async def test_cancelled_sealing_leaves_nothing(tmp_path: Path) -> None:
    plain, sealed = tmp_path / "a", tmp_path / "a.age"
    with plain.open("wb") as file:
        file.truncate(400 << 20)
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(
        seal_file(plain, sealed, Lock((new_identity()[1],)), lambda _: loop.call_soon_threadsafe(running.set) and None)
    )
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not sealed.exists()


def test_the_recovery_key_is_proved_and_opens_what_was_sealed_to_it(tmp_path: Path) -> None:
    key = RecoveryKey(tmp_path / "keys")
    assert key.recipient() is None
    with pytest.raises(WeakPassphraseError):
        key.create("short")
    recipient = key.create(WORDS)
    assert key.recipient() == recipient == key.prove(WORDS)
    assert b"AGE-SECRET-KEY" not in key.sealed.read_bytes() + key.public.read_bytes()
    sealed = io.BytesIO()
    seal(io.BytesIO(b"bundle"), sealed, Lock((recipient,)))
    assert opened(sealed.getvalue(), Keys((key.identity(WORDS),))) == b"bundle"
    with pytest.raises(KeyExistsError):
        key.create(WORDS)
    with pytest.raises(WrongPassphraseError):
        key.prove("not the passphrase")


def test_keys_are_checked() -> None:
    identity, recipient = new_identity()
    assert check_recipient(f" {recipient}\n") == recipient
    assert identities_in(f"# made\n{identity}\n") == (identity,)
    for wrong in ("age1nonsense", "", identity):
        with pytest.raises(BadKeyError):
            check_recipient(wrong)
    with pytest.raises(BadKeyError):
        identities_in("# nothing\n")
    assert WORDS not in repr(Lock(passphrase=WORDS)) + repr(Keys((identity,), WORDS))
