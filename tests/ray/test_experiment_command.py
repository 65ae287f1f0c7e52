"""`multienv experiment`: every run in a folder of its own, resumed and not repeated, and a report in the end."""

from __future__ import annotations

import csv
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_helpers import command, environment, run_cli
from experiment_files import TINY, written

from rllib_multienv.evaluation.experiment_info import read_experiment_info

PRETRAIN = ("--only", "pretrain/agnostic/seed0")


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("programs_on_the_cluster")
def test_phases_run_in_order_and_are_not_repeated(tmp_path: Path) -> None:
    reset = "from: pretrain\n    initialize_from: {reset: [log_std]}"
    text = TINY.replace("[0, 1]", "[0]").replace("from: pretrain", reset)
    written(tmp_path, text)
    selection = ("--only", "transfer", "--only", "alone/single/CartPole-v1", "--parallel", "2")
    first = run_cli("experiment", "tiny.yaml", *selection, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    root = tmp_path / "results" / "tiny"
    done = [line.split()[1] for line in first.stdout.splitlines() if line.startswith("done ")]
    assert sorted(done) == [
        "alone/single/CartPole-v1/seed0",
        "pretrain/agnostic/seed0",
        "transfer/agnostic/seed0",
    ]
    assert done.index("transfer/agnostic/seed0") > done.index("pretrain/agnostic/seed0")
    transferred = (root / "runs/transfer/agnostic/seed0/config.yaml").read_text(encoding="utf-8")
    assert f"path: {root}/runs/pretrain/agnostic/seed0/trial_00000/checkpoint_" in transferred
    assert "reset: [log_std]" in transferred

    metrics = root / "metrics"
    assert [(r["phase"], r["env"], r["status"], r["env_steps"]) for r in rows(metrics / "runs.csv")] == [
        ("pretrain", "", "done", "512"),
        ("transfer", "", "done", "256"),
        ("alone", "CartPole-v1", "done", "256"),
    ]
    assert [(r["phase"], r["env_id"]) for r in rows(metrics / "evaluations.csv")] == [
        ("pretrain", "CartPole-v1"),
        ("pretrain", "Pendulum-v1"),
        ("transfer", "Acrobot-v1"),
        ("alone", "CartPole-v1"),
    ]
    # A variant that has not run here may have run elsewhere: one report of both knows what it is an ablation of.
    info = read_experiment_info(metrics / "experiment.json")
    assert info.name == "tiny"
    assert [variant.ablation_of for variant in info.variants] == [None, "agnostic", None]
    assert {(r["env_a"], r["env_b"]) for r in rows(metrics / "gradient_cosines.csv")} == {
        ("CartPole-v1", "Pendulum-v1")
    }
    assert (root / "report.html").is_file()

    times = {path: path.stat().st_mtime_ns for path in root.glob("runs/**/evaluation.csv")}
    again = run_cli("experiment", "tiny.yaml", *selection[:4], cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "started" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times
    # The page says how all that it shows was made.
    assert read_experiment_info(metrics / "experiment.json").commands == [
        "multienv experiment tiny.yaml --only transfer --only alone/single/CartPole-v1 --parallel 2",
        "multienv experiment tiny.yaml --only transfer --only alone/single/CartPole-v1",
    ]

    # A run whose training had ended when it failed is evaluated, and is done.
    run = root / "runs/transfer/agnostic/seed0"
    (run / "evaluation.csv").unlink()
    run.with_name("seed0.failure").write_text("the run is done")
    later = run_cli("experiment", "tiny.yaml", *selection[:2], cwd=tmp_path)
    assert later.returncode == 0, later.stdout + later.stderr
    assert (run / "evaluation.csv").is_file() and not run.with_name("seed0.failure").exists()
    times = {path: path.stat().st_mtime_ns for path in times}

    # Other settings are not mixed with what is there.
    written(tmp_path, text.replace("num_epochs: 1", "num_epochs: 2"))
    changed = run_cli("experiment", "tiny.yaml", *selection, cwd=tmp_path)
    assert changed.returncode == 1
    assert "was made with training.num_epochs=1, now it is 2" in changed.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.usefixtures("programs_on_the_cluster")
def test_a_failed_run_blocks_only_what_starts_from_it_and_is_tried_again(tmp_path: Path) -> None:
    mended = tmp_path / "mended"  # the environment's process has a current folder of its own
    broken = (
        "import gymnasium as gym\n\n\nclass Broken(gym.Wrapper):\n    def __init__(self, **kwargs):\n"
        "        super().__init__(gym.make('CartPole-v1'))\n        self.steps = 0\n\n    def step(self, action):\n"
        "        import os\n        self.steps += 1\n"
        f"        if self.steps > 20 and not os.path.exists({str(mended)!r}):\n"
        "            raise RuntimeError('it broke')\n"
        "        return super().step(action)\n"
    )
    (tmp_path / "broken_env.py").write_text(broken, encoding="utf-8")
    text = TINY.replace("[0, 1]", "[0]").replace(
        "envs: [CartPole-v1, Pendulum-v1]", "envs: [{id: broken, make: 'broken_env:Broken'}]", 1
    )
    written(tmp_path, text)
    first = run_cli("experiment", "tiny.yaml", "--only", "transfer", "--no-report", cwd=tmp_path)
    assert first.returncode == 1
    assert "it broke" in first.stdout
    assert "started   transfer" not in first.stdout
    mended.touch()
    second = run_cli("experiment", "tiny.yaml", *PRETRAIN, "--no-report", cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "1 of 1 runs done" in second.stdout


def test_an_interrupted_run_keeps_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, TINY.replace("steps_per_environment: 256", "steps_per_environment: 2000000", 1))
    folder = tmp_path / "results/tiny/runs/pretrain/agnostic/seed0"
    process = subprocess.Popen(
        command("experiment", "tiny.yaml", *PRETRAIN),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not (folder / "progress.csv").is_file():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "The same command goes on" in output
    assert list(folder.glob("trial_*/checkpoint_*"))
    assert not (folder / "evaluation.csv").exists()
    status = run_cli("experiment", "tiny.yaml", *PRETRAIN, "--status", cwd=tmp_path)
    assert "unfinished" in status.stdout
