"""How an experiment was run: its commands and machines, kept with its results."""

from __future__ import annotations

import json
from pathlib import Path

from rllib_multienv.atomic_files import write_json
from rllib_multienv.evaluation.experiment_info import join_parts

_FILE = "invocation.json"


def read_invocation(folder: Path) -> dict[str, str]:
    """Name, command and machine of an experiment; of parts that were run one after the other, all of them."""
    file = folder / _FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def record_invocation(folder: Path, *, name: str, command: str, machine: str) -> None:
    """Add a command and its machine to those before: one alone may have run a part of what lies there."""
    before = read_invocation(folder)
    invocation = {
        "name": name,
        "command": join_parts([before.get("command", ""), command]),
        "machine": join_parts([before.get("machine", ""), machine]),
    }
    # Several commands may run parts of one experiment at a time.
    write_json(folder / _FILE, invocation)
