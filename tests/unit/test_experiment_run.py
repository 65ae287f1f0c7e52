"""Execution of an experiment's runs, with a program instead of `multienv train`, and the raw metrics of their files."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from experiment_files import TINY, loaded
from untrained_agent import save_untrained

from rllib_multienv import SpecificNetConfig
from rllib_multienv.evaluation.progress import ProgressWriter
from rllib_multienv.evaluation.raw_metrics import read_raw_metrics
from rllib_multienv.experiments.collect import collect
from rllib_multienv.experiments.file import load_experiment_file
from rllib_multienv.experiments.invocation import record_invocation
from rllib_multienv.experiments.plan import Run, State, plan, selected
from rllib_multienv.experiments.run import Execution, evaluate_start

# Stands for Python: `-m rllib_multienv train FILE --results DIR --name NAME` or `--resume DIR`. Leaves a checkpoint and
# an evaluation; the latter not where a file `broken` is beside it. With a file `slow` it waits for SIGINT.
PROGRAM = f"""\
#!{sys.executable}
import signal, sys, time
from pathlib import Path
arguments = sys.argv[4:]
root = Path(__file__).parent
resumed = arguments[0] == "--resume"
folder = Path(arguments[1]) if resumed else Path(arguments[2], arguments[4])
(folder / "trial_0/checkpoint_0").mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").touch()
with open(root / "calls", "a") as calls:
    calls.write(("resume " if resumed else "train ") + folder.parts[-2] + "\\n")
if (root / "slow").exists():
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    (root / "waiting").touch()
    time.sleep(60)
if (root / "broken").exists():
    print("Error in trial: it broke")
    sys.exit(1)
(folder / "evaluation.csv").touch()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr("rllib_multienv.experiments.run.sys.executable", str(program))
    monkeypatch.setattr("rllib_multienv.experiments.run._POLL_S", 0.02)
    return tmp_path


def execution(root: Path, text: str, *patterns: str, seen: list[str] | None = None, parallel: int = 1) -> Execution:
    def on_change(run: Run, state: State) -> None:
        if seen is not None:
            seen.append(f"{state} {run.name}")

    runs = selected(plan(loaded(root, text.replace("[0, 1]", "[0]")), root), patterns)
    return Execution(runs, parallel=parallel, episodes=1, on_change=on_change)


def calls(root: Path) -> list[str]:
    return (root / "calls").read_text().splitlines()


def test_runs_start_after_the_one_that_they_start_from_and_are_not_repeated(root: Path) -> None:
    seen: list[str] = []
    assert execution(root, TINY, "transfer", seen=seen, parallel=2).run()
    assert seen == [
        "running pretrain/agnostic/seed0",
        "done pretrain/agnostic/seed0",
        "running transfer/agnostic/seed0",
        "done transfer/agnostic/seed0",
    ]
    started = (root / "runs/transfer/agnostic/seed0.yaml").read_text()
    assert f"path: {root}/runs/pretrain/agnostic/seed0/trial_0/checkpoint_0" in started
    assert execution(root, TINY, "transfer").run()
    assert len(calls(root)) == 2


def test_a_failed_run_blocks_only_what_starts_from_it_and_is_tried_again(root: Path) -> None:
    (root / "broken").touch()
    seen: list[str] = []
    first = execution(root, TINY, "transfer", "alone", seen=seen)
    assert not first.run()
    assert not [line for line in seen if "transfer" in line]
    assert "failed alone/single/Pendulum-v1/seed0" in seen
    failure = (root / "runs/pretrain/agnostic/seed0.failure").read_text()
    assert failure == "exit status 1: Error in trial: it broke\n"
    (root / "broken").unlink()
    assert execution(root, TINY, "transfer", "alone").run()
    assert not list(root.rglob("*.failure"))
    # There was a checkpoint.
    assert calls(root)[0] == "train agnostic"
    assert "resume agnostic" in calls(root)


def test_an_interrupted_run_is_unfinished_and_resumed(root: Path) -> None:
    (root / "slow").touch()
    interrupted = execution(root, TINY, "transfer")
    thread = threading.Thread(target=interrupted.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not (root / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    interrupted.interrupt()
    thread.join(20)
    assert not thread.is_alive() and interrupted.interrupted
    assert not list(root.rglob("*.failure"))
    assert plan(loaded(root), root)[0].state is State.UNFINISHED
    (root / "slow").unlink()
    assert execution(root, TINY, "transfer").run()
    assert calls(root) == ["train agnostic", "resume agnostic", "train agnostic"]


def test_the_agent_that_a_run_starts_with_is_evaluated_before_any_step(root: Path) -> None:
    pretrain, transfer = (run for run in plan(loaded(root), root) if run.variant.name == "agnostic" and run.seed == 0)
    pretrain.write_file()
    save_untrained(pretrain.folder.path / "trial_0" / "checkpoint_0", ["CartPole-v1"])
    pretrain.folder.config.touch()
    pretrain.folder.evaluation.touch()
    Execution([pretrain, transfer], parallel=1, episodes=2).run()
    found = pd.read_csv(transfer.beside(".start.csv"))
    assert found[["env_id", "episodes"]].values.tolist() == [["Acrobot-v1", 2]]


def test_an_agent_that_cannot_act_in_new_environments_is_not_evaluated(root: Path) -> None:
    pretrain, transfer = (run for run in plan(loaded(root), root) if run.variant.name == "agnostic" and run.seed == 0)
    save_untrained(pretrain.folder.path / "trial_0" / "checkpoint_0", ["CartPole-v1"], SpecificNetConfig(width=8))
    evaluate_start(transfer, pretrain, episodes=2)
    assert not transfer.beside(".start.csv").exists()


def test_runs_of_other_settings_are_not_mixed(root: Path) -> None:
    assert execution(root, TINY, "pretrain").run()
    changed = execution(root, TINY.replace("num_epochs: 1", "num_epochs: 2"), "pretrain")
    with pytest.raises(ValueError, match=r"was made with training.num_epochs=1, now it is 2"):
        changed.check()
    execution(root, TINY, "pretrain").check()


def test_what_runs_leave_becomes_raw_metrics(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(TINY)
    for command in ("multienv experiment a", "multienv experiment b", "multienv experiment a"):
        record_invocation(tmp_path, name="tiny", command=command)
    run = plan(loaded(tmp_path), tmp_path)[0]
    run.write_file()
    run.folder.path.mkdir(parents=True)
    writer = ProgressWriter(run.folder.progress)
    for iteration in range(1, 121):
        row = {
            "training_iteration": iteration,
            "time_total_s": iteration * 2.0,
            "num_env_steps_sampled_lifetime": iteration * 10.0,
            "env_runners/num_module_steps_sampled_lifetime/CartPole-v1": iteration * 5.0,
            "env_runners/module_episode_return_mean/CartPole-v1": iteration * 1.0,
        }
        if iteration > 118:
            row["learners/CartPole-v1/gradient_cosine/Pendulum-v1"] = 0.5 if iteration == 119 else -0.25
        writer.write(row)
    run.folder.evaluation.write_text("env_id,episodes,mean,std,min,max,mean_length\nCartPole-v1,2,7.5,0.5,7,8,7.5\n")

    metrics = read_raw_metrics(collect(tmp_path, random_episodes=2))
    assert metrics.experiment.command == "multienv experiment a; multienv experiment b"
    # A variant that has not run here may have run elsewhere: a report of both knows its base.
    assert [variant.ablation_of for variant in metrics.experiment.variants] == [None, "agnostic", None]
    assert metrics.experiment.seeds == (0,)
    (found,) = metrics.runs.to_dict("records")
    assert (found["variant"], found["env_steps"], found["seconds"], found["steps_per_second"]) == (
        "agnostic",
        1200,
        240,
        5,
    )
    assert (found["status"], pd.isna(found["parameters"])) == ("done", True)
    assert metrics.evaluations.iloc[0][["env_id", "episodes", "mean", "max"]].tolist() == ["CartPole-v1", 2, 7.5, 8.0]
    # Every third point, counted from the last.
    assert len(metrics.curves) == 40
    assert metrics.curves.iloc[-1][["steps", "return_mean"]].tolist() == [600, 120.0]
    cosine = metrics.gradient_cosines.iloc[0]
    assert cosine[["env_a", "env_b", "mean", "negative", "measurements"]].tolist() == [
        "CartPole-v1", "Pendulum-v1", 0.125, 0.5, 2
    ]  # fmt: skip
    assert metrics.random_scores["env_id"].tolist() == ["CartPole-v1", "Pendulum-v1"]
    assert metrics.random_scores["episodes"].tolist() == [2, 2]


def test_the_adaptation_of_a_finished_run_is_measured_once(tmp_path: Path) -> None:
    text = TINY.replace("one_by_one: true", "one_by_one: true\n    adaptation: {num_tasks: 3, episodes: 2}")
    text = text.replace("envs: [CartPole-v1, {id: Pendulum-v1, num_envs: 1}]", "envs: [multienv/Bandit-v0]")
    (tmp_path / "experiment.yaml").write_text(text)
    runs = plan(load_experiment_file(tmp_path / "experiment.yaml"), tmp_path)
    run = next(run for run in runs if run.phase.name == "alone")
    run.write_file()
    save_untrained(run.folder.path / "trial_0" / "checkpoint_0", ["multienv/Bandit-v0"])
    run.folder.evaluation.write_text("env_id,episodes,mean,std,min,max\n")

    found = read_raw_metrics(collect(tmp_path, random_episodes=2)).adaptation
    assert found[["phase", "env_id", "episode", "tasks"]].to_numpy().tolist() == [
        ["alone", "multienv-Bandit-v0", 1, 3],
        ["alone", "multienv-Bandit-v0", 2, 3],
    ]
    assert ((found["low"] <= found["mean"]) & (found["mean"] <= found["high"])).all()
    (run.folder.path / "trial_0" / "checkpoint_0").rename(run.folder.path / "gone")
    pd.testing.assert_frame_equal(read_raw_metrics(collect(tmp_path, random_episodes=2)).adaptation, found)
