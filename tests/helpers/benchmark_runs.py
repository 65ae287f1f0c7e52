"""Short runs of the programs in `benchmarks/`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from cli_helpers import ROOT, environment
from warm_python import run_program


def benchmark_module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks/<name>.py``, imported."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def run_benchmark(name: str, *arguments: object, cwd: Path, timeout: float = 240) -> str:
    """Run ``benchmarks/<name>.py --short`` to its end; returns what it printed."""
    program = ROOT / "benchmarks" / f"{name}.py"
    done = run_program([program, "--short", *arguments], cwd=cwd, env=environment(), timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
