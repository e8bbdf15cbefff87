"""Sealed files as streams: both ways with pyrage, read from any place, every byte counts."""

from __future__ import annotations

import io
import os
import random
import tracemalloc
from pathlib import Path

import pyrage
import pytest

from agent.sealing.age import Keys, Lock, new_identity, seal, unseal
from agent.sealing.errors import DamagedSealError, KeyNeededError, SealingError, WrongKeyError, WrongPassphraseError
from agent.sealing.passphrase import BLOCK
from agent.sealing.stream import Sealer, header_of, open_with, read_sealed

WORDS = "correct horse battery staple"
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 17]


def sealed(data: bytes, lock: Lock, piece: int = 10_000) -> bytes:
    sealer = Sealer(lock)
    expected = sealer.size_of(len(data))
    made = b"".join(sealer.update(data[at : at + piece]) for at in range(0, len(data), piece)) + sealer.finish()
    assert len(made) == expected
    return made


def read_whole(path: Path, keys: Keys) -> None:
    with read_sealed(path, open_with(path, keys)) as file:
        while file.read(50_000):
            pass


def test_what_is_sealed_in_pieces_another_age_opens() -> None:
    identity, recipient = new_identity()
    other = new_identity()[1]
    for size in SIZES:
        data = os.urandom(size)
        made = sealed(data, Lock((other, recipient)))
        assert pyrage.decrypt(made, [pyrage.x25519.Identity.from_str(identity)]) == data
    assert pyrage.passphrase.decrypt(sealed(data, Lock(passphrase=WORDS)), WORDS) == data


def test_what_another_age_seals_is_read_from_any_place(tmp_path: Path) -> None:
    identity, recipient = new_identity()
    keys, path, chance = Keys((new_identity()[0], identity)), tmp_path / "a.age", random.Random(5)
    for size in SIZES:
        data = os.urandom(size)
        whole = io.BytesIO()
        seal(io.BytesIO(data), whole, Lock((new_identity()[1], recipient)))
        path.write_bytes(whole.getvalue())
        with read_sealed(path, open_with(path, keys)) as file:
            assert file.read() == data
            assert file.seek(0, io.SEEK_END) == size
            for _ in range(30):
                at, length = chance.randint(0, size), chance.randint(0, 2 * BLOCK)
                file.seek(at)
                assert file.read(length) == data[at : at + length]
    path.write_bytes(pyrage.passphrase.encrypt(data, WORDS))
    with read_sealed(path, open_with(path, Keys(passphrase=WORDS))) as file:
        assert file.read() == data


def test_every_cut_and_every_changed_byte_is_found(tmp_path: Path) -> None:
    identity, recipient = new_identity()
    made, path = sealed(os.urandom(2 * BLOCK + 5), Lock((recipient,))), tmp_path / "a.age"
    places = [*range(260), *random.Random(1).sample(range(len(made)), 60), len(made) - 1]
    changed = [made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :] for at in places]
    head = len(made) - (2 * BLOCK + 5) - 3 * 16
    ends = [head, head + 1, head + BLOCK + 16, head + 2 * (BLOCK + 16), len(made) - 1, *range(1, head, 7)]
    for data in (*changed, *(made[:end] for end in ends), made + b"x"):
        path.write_bytes(data)
        with pytest.raises(SealingError):
            read_whole(path, Keys((identity,)))


def test_what_does_not_open_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.age"
    path.write_bytes(sealed(b"rows", Lock((new_identity()[1],))))
    with pytest.raises(WrongKeyError, match=r"a\.age"):
        open_with(path, Keys((new_identity()[0],)))
    with pytest.raises(KeyNeededError):
        open_with(path, Keys(passphrase=WORDS))
    path.write_bytes(sealed(b"rows", Lock(passphrase=WORDS)))
    with pytest.raises(WrongPassphraseError):
        open_with(path, Keys(passphrase=WORDS + "?"))
    path.write_bytes(b"BKRM")
    assert header_of(path) is None


def test_the_key_of_one_file_opens_no_other(tmp_path: Path) -> None:
    identity, recipient = new_identity()
    one, other = tmp_path / "1.age", tmp_path / "2.age"
    for path in (one, other):
        path.write_bytes(sealed(b"rows", Lock((recipient,))))
    with pytest.raises(DamagedSealError):
        read_sealed(other, open_with(one, Keys((identity,)))).read()


def test_memory_stays_small(tmp_path: Path) -> None:
    identity, recipient = new_identity()
    path, sealer = tmp_path / "a.age", Sealer(Lock((recipient,)))
    tracemalloc.start()
    with path.open("wb") as file:
        for _ in range(40):
            file.write(sealer.update(bytes(1 << 20)))
        file.write(sealer.finish())
    with read_sealed(path, open_with(path, Keys((identity,)))) as content:
        while content.read(1 << 20):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
    out = io.BytesIO()
    with path.open("rb") as source:
        unseal(source, out, Keys((identity,)))
    assert out.getvalue() == bytes(40 << 20)
