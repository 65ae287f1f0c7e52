"""The programs in `examples/` run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli_helpers import ROOT, environment


def run_example(name: str, *arguments: str, cwd: Path) -> list[str]:
    """Run a program of `examples/` to its end; returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=cwd,
        env={**environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_example_trains_saves_and_acts_in_all_its_environments(tmp_path: Path) -> None:
    lines = run_example("train_heterogeneous.py", "2", cwd=tmp_path)
    assert [line.split()[0] for line in lines[:2]] == ["1", "2"]
    assert "'CartPole-v1'" in lines[1]
    checkpoint = next(line.removeprefix("saved to ") for line in lines if line.startswith("saved to"))
    assert Path(checkpoint, "multienv.json").is_file()
    shown = {line.split(":")[0]: float(line.split(":")[1]) for line in lines if line[-1].isdigit() and "-v" in line}
    assert 0 < shown["CartPole-v1"] <= 500 and -500 <= shown["Acrobot-v1"] < 0
    assert 0 < shown["InvertedPendulum-v4"] <= 1000 and -100 < shown["Reacher-v4"] < 0


def test_what_was_learned_offline_goes_on_online(tmp_path: Path) -> None:
    lines = run_example("offline_then_online.py", "150", "2", cwd=tmp_path)
    offline = next(float(line.split(": ")[1].rstrip("}")) for line in lines if line.startswith("offline"))
    score = next(float(line.split()[1]) for line in lines if line.startswith("score"))
    assert 9 <= offline <= 500 and abs(score - 100 * (offline - 22) / 478) < 0.1
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]
    assert all("'CartPole-v1'" in line and "'InvertedPendulum-v4'" in line for line in lines[-2:])
