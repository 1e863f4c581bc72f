"""What the process gives back to the system: large memory at once, as a box of 256 MiB needs it."""

from __future__ import annotations

import os
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE = 1 << 20


def give_back_large() -> None:
    """Let glibc map each block of 1 MiB or more by itself, so that it goes back to the system when it is freed.

    By default glibc raises this size to that of the largest block so far; then each thread that once held an exposition
    of 16 MB keeps as much. Does nothing where the C library is another one.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    import ctypes  # 0.3 MB, for those who run

    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
