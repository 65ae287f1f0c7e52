"""Freed memory stays with the process that trains."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")

# Steps like a training step's: many tensors at once, freed together. Prints what the setting said, and page faults.
SCRIPT = """
import resource, torch
from rllib_multienv.process import keep_freed_memory

def step():
    return [torch.ones(300_000) for _ in range(40)]

kept = keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of ten steps."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, number = done.stdout.split()
    return kept == "True", int(number)


def test_steps_get_no_memory_from_the_system_again() -> None:
    kept, number = faults()
    assert kept
    assert number < 100  # a step has 12,000 pages


def test_settings_of_the_user_have_precedence() -> None:
    kept, number = faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert number > 10_000
