"""Invitation codes: a number that says which invitation, and three words that are its secret (30 bits)."""

from __future__ import annotations

import difflib
import re
import secrets
from dataclasses import dataclass, field
from typing import Protocol

from certs.errors import BadCode
from certs.words import WORDS

WORDS_PER_CODE = 3
HIGHEST_WINDOW = 99
_KNOWN = frozenset(WORDS)


class Chooser(Protocol):
    """Where random numbers come from: `random.Random` and `random.SystemRandom` fit."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 up to but not including `stop`, all equally likely."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code. `str(code)` is its text; `repr` keeps the words to itself, so that logs do."""

    window: int
    words: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return "-".join((str(self.window), *self.words))

    @property
    def secret(self) -> bytes:
        """The password that both sides enter into SPAKE2: the words alone, joined by hyphens."""
        return "-".join(self.words).encode("ascii")


def new_code(chooser: Chooser | None = None) -> Code:
    """A fresh code, from the system's random source unless a test passes another."""
    source = secrets.SystemRandom() if chooser is None else chooser
    window = source.randrange(HIGHEST_WINDOW) + 1
    return Code(window, tuple(WORDS[source.randrange(len(WORDS))] for _ in range(WORDS_PER_CODE)))


def parse_code(text: str) -> Code:
    """Read a code as people type it: any case, any of space, hyphen, comma or dot between the parts.

    Raises `BadCode`; a word that is not in the list is named, with the nearest one that is.
    """
    parts = re.findall(r"[0-9]+|[a-z]+", text[:200].lower())
    if len(parts) != WORDS_PER_CODE + 1 or not parts[0].isdigit() or not all(part.isalpha() for part in parts[1:]):
        raise BadCode("This is not an invitation code.")
    for word in parts[1:]:
        if word not in _KNOWN:
            near = difflib.get_close_matches(word, WORDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise BadCode(f"The word {word!r} is in no invitation code.", hint=hint)
    if not 1 <= int(parts[0]) <= HIGHEST_WINDOW:
        raise BadCode(f"The number of an invitation code is between 1 and {HIGHEST_WINDOW}.")
    return Code(int(parts[0]), tuple(parts[1:]))
