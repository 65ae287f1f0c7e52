"""The machine in words, for reports."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    """CPU cores and their kind, GPUs, and the version of Python."""
    parts = [f"{os.cpu_count()} CPU cores ({_cpu_name()})"]
    import torch

    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} GPU ({torch.cuda.get_device_name()})")
    parts.append(f"Python {platform.python_version()}")
    return ", ".join(parts)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
