"""How a server's memory is taken and given back: what one request has let go is there for the next one.

By itself glibc keeps memory apart for each thread and returns large blocks to the system at once. A network on a batch
takes tens of megabytes for each of its layers, so the system cleared thousands of pages for every request, which took
longer than a batch saved, and each of the threads that took turns at the network kept its own.
"""

from __future__ import annotations

import ctypes
import os
import platform

MB = 2**20

_TRIM, _MMAP, _ARENAS = -1, -3, -8
"""Numbers of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX."""

LARGEST, KEPT = (64 * MB, 32 * MB), 256 * MB
"""Bytes from which a block is the system's own again once it is let go (glibc before 2.35 takes 32 MB at most), and
bytes that stay for the next request."""

SETTINGS = (
    (_ARENAS, (1,), "MALLOC_ARENA_MAX"),
    (_MMAP, LARGEST, "MALLOC_MMAP_THRESHOLD_"),
    (_TRIM, (KEPT,), "MALLOC_TRIM_THRESHOLD_"),
)
"""Parameter, values of which the first that is taken holds, and the variable of glibc by which whoever starts the
server may set it otherwise. Once any is set, glibc raises the threshold of blocks no more by itself, so nothing is set
after one that was refused."""


def keep_memory() -> bool:
    """Sets it for this process, before its threads begin; where the C library is not glibc, nothing is done.

    Returns:
        Whether it was set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    wanted = ((number, values) for number, values, name in SETTINGS if name not in os.environ)
    return all(any(library.mallopt(number, value) for value in values) for number, values in wanted)
