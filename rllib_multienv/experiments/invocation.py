"""Commands and machines of an experiment, kept with its results."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from rllib_multienv.atomic_files import write_json
from rllib_multienv.evaluation.raw_metrics import join_parts

#: The experiment's file in its folder.
EXPERIMENT_FILE = "experiment.yaml"
_FILE = "invocation.json"


def read_invocation(folder: Path) -> dict[str, str]:
    """Name, command and machine of an experiment; those of several parts are joined."""
    file = folder / _FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def record_invocation(folder: Path, *, name: str, command: str) -> None:
    """Adds a command and this machine to those before, which may have run other parts."""
    before = read_invocation(folder)
    own = {"command": command, "machine": describe_machine()}
    joined = {key: join_parts([before.get(key, ""), text]) for key, text in own.items()}
    # Several commands may run parts of one experiment at a time.
    write_json(folder / _FILE, {"name": name, **joined})


def describe_machine() -> str:
    """CPU cores and their kind, GPUs, and the version of Python, for reports."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    gpus = f"{torch.cuda.device_count()} GPU ({torch.cuda.get_device_name()}), " if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} CPU cores ({cpu}), {gpus}Python {platform.python_version()}"
