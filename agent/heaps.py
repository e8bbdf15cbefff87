"""How the C library keeps memory, where it is glibc: in two heaps instead of one a thread; what is free is kept for
what comes next, and given back when nothing does.

A long-lived process whose threads each had blocks of megabytes keeps what lies between the blocks that are still in
use, in every heap anew: after large transfers that was more than what the agent used. Elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys

HEAPS = 2
# Names of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MAPPED_ALONE_BYTES = 32 << 20
_KEPT_BYTES = 64 << 20


def few_heaps() -> None:
    """Have at most ``HEAPS`` heaps, which keep the memory of blocks of some megabytes for the next ones. To be called
    while there are no more threads than that."""
    if (library := _glibc()) is not None:
        library.mallopt(_ARENA_MAX, HEAPS)
        # Else each block of a megabyte comes fresh from the system, page by page, and goes back to it.
        library.mallopt(_MMAP_THRESHOLD, _MAPPED_ALONE_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


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
