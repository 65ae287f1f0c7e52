"""What the C library does with the memory that tensors free."""

from __future__ import annotations

import ctypes
import os
import platform

# Numbers of mallopt(3), glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations, where the C library is glibc.

    A training step allocates and frees the same activations over and over. By default glibc gives much of that back to
    the system each time and gets it again page by page, which takes 10 to 15% of a step of a small network on a CPU
    (docs/performance.md). The process may keep up to half a GiB that it does not use. Settings of malloc in the
    environment (``MALLOC_TRIM_THRESHOLD_`` and the like) have precedence.

    Returns:
        Whether it does.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OF_THE_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # 32 MiB is the most that glibc takes for the size from which allocations are mapped one by one.
    settings = {_MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 512 * _MIB, _TOP_PAD: 64 * _MIB}
    return all(mallopt(number, value) == 1 for number, value in settings.items())
