"""How the C library keeps memory, where it is glibc: two heaps instead of one a thread, and what is free is given back.

A long-lived process whose threads each had blocks of megabytes keeps what lies between the blocks that are still in
use, in every heap anew: after large transfers that was more than what the agent used. Elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys

HEAPS = 2
# M_ARENA_MAX of glibc's malloc.h.
_ARENA_MAX = -8


def few_heaps() -> None:
    """Have at most ``HEAPS`` heaps. To be called while there are no more threads than that."""
    if (library := _glibc()) is not None:
        library.mallopt(_ARENA_MAX, HEAPS)


def give_back() -> None:
    """Give memory that is free back to the system. Takes milliseconds."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    return ctypes.CDLL(None) if found else None
