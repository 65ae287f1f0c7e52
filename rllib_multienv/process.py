"""Settings of a process that trains: PyTorch's threads, and the memory that its tensors free."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import torch

# Numbers of mallopt(3), glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20
_USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


#: Parameters from which several threads may pay in a training step (docs/performance.md, Threads).
PAYS_FROM_PARAMETERS = 1_000_000
_DEFAULT_THREADS = torch.get_num_threads()


def set_threads(num_parameters: int | None = None) -> None:
    """Set PyTorch's threads: in a Ray actor as many as it has CPUs, elsewhere one for a small network.

    Two processes that each use a thread per core run many times slower than one alone, and a small network is faster
    with one thread. Numbers that the user has set (``OMP_NUM_THREADS``, ``torch.set_num_threads``) stay.

    Args:
        num_parameters: Of the network; where not given, threads outside of actors stay as they are.
    """
    ray = sys.modules.get("ray")  # in an actor it is there
    context = ray.get_runtime_context() if ray is not None and ray.is_initialized() else None
    if context is None or context.get_actor_id() is None:
        users = "OMP_NUM_THREADS" in os.environ or torch.get_num_threads() != _DEFAULT_THREADS
        if num_parameters is not None and num_parameters < PAYS_FROM_PARAMETERS and not users:
            torch.set_num_threads(1)
        return
    # An actor that serves as a placement-group trial may hold its CPUs through the group alone.
    cpus = context.get_assigned_resources().get("CPU", 0.0)
    torch.set_num_threads(max(1, round(cpus)))


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations, where the C library is glibc.

    A training step allocates and frees the same activations over and over. By default glibc returns much of that to
    the system and gets it back page by page, which takes 10 to 15% of a step of a small network on a CPU
    (docs/performance.md). The process may keep up to half a GiB that it does not use. The user's own malloc settings
    in the environment (``MALLOC_TRIM_THRESHOLD_`` and the like) have precedence.

    Returns:
        Whether it does.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USER_SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Allocations above this size are mapped one by one; glibc's largest value is 32 MiB.
    settings = {_MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 512 * _MIB, _TOP_PAD: 64 * _MIB}
    return all(mallopt(number, value) == 1 for number, value in settings.items())
