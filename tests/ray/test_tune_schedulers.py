"""Trials that learn from each other: population-based training and successive halving (ASHA), both very small."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import ROOT, call_cli
from probed_ppo import ProbedPPO
from ray import tune

from rllib_multienv.checkpoints import read_checkpoint
from rllib_multienv.config_files import build_tuner, load_config_file
from rllib_multienv.evaluation.progress import read_progress

# The rate is the metric, so it is certain that the second trial is the worse one; no weight is drawn anew; and a trial
# takes three of four CPUs, so that they take turns.
POPULATION = """\
algorithm: ProbedPPO
environment: {envs: [CartPole-v1, Pendulum-v1]}
env_runners: {num_env_runners: 0, num_envs_per_env_runner: 2, rollout_fragment_length: 16}
rl_module: {model_config: {d_model: 8, d_state: 4}}
resources: {num_cpus_for_main_process: 3}
training:
  num_epochs: 1
  num_minibatches: 2
  actor_lr: !grid_search [1e-3, 1e-4]
  env_loss_weights: {CartPole-v1: 1.0, Pendulum-v1: 2.0}
stop: {training_iteration: 3}
tune:
  metric: learners/shared/actor_lr
  mode: max
  scheduler:
    type: pbt
    time_attr: training_iteration
    perturbation_interval: 1
    synch: true
    quantile_fraction: 0.5
    resample_probability: 0.0
    hyperparam_mutations:
      env_loss_weights: {CartPole-v1: !uniform [0.5, 2], Pendulum-v1: [2.0, 4.0]}
"""
STEPS_PER_ITERATION = 2 * 2 * 16


@dataclasses.dataclass(frozen=True)
class Reported:
    """What a trial has reported."""

    trial: str
    iteration: int
    steps: int
    rate: float
    used: dict[str, float]
    loaded: str
    fingerprint: str


class Recorder(tune.Callback):
    """Keeps what trials report, in the order in which it comes, and the loss weights in their settings at the end."""

    def __init__(self) -> None:
        self.rows: list[Reported] = []
        self.weights: dict[str, dict[str, float]] = {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.rows.append(
            Reported(
                trial=str(trial),
                iteration=result["training_iteration"],
                steps=int(result["num_env_steps_sampled_lifetime"]),
                rate=result["learners"]["shared"]["actor_lr"],
                used=result["loss_weights"],
                loaded=result["loaded"],
                fingerprint=result["fingerprint"],
            )
        )


@pytest.fixture(scope="module")
def recorded(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """The two trials of the population."""
    tune.register_trainable("ProbedPPO", ProbedPPO)
    folder = tmp_path_factory.mktemp("population")
    (folder / "population.yaml").write_text(POPULATION)
    recorder = Recorder()
    grid = build_tuner(load_config_file(folder / "population.yaml"), storage_path=folder, callbacks=[recorder]).fit()
    assert len(grid) == 2 and grid.num_errors == 0
    recorder.weights = {Path(result.path).name: result.config["env_loss_weights"] for result in grid}
    return recorder


@pytest.fixture
def population(recorded: Recorder) -> list[Reported]:
    return recorded.rows


def exploitations(rows: list[Reported]) -> list[tuple[Reported, Reported]]:
    """The first result of each trial that went on as another trial's copy, after the result that it was copied from."""
    left = {row.fingerprint: row for row in rows}
    return [(left[row.loaded], row) for row in rows if row.loaded and left[row.loaded].trial != row.trial]


def test_the_worse_trial_goes_on_as_a_copy_of_the_better_one(population: list[Reported]) -> None:
    found = exploitations(population)
    assert len(found) == 2
    first_donor, first = found[0]
    assert (first_donor.trial, first.trial) == ("trial_00000", "trial_00001")
    for donor, row in found:
        assert row.iteration == donor.iteration + 1
        assert row.steps == donor.steps + STEPS_PER_ITERATION
        assert row.fingerprint != donor.fingerprint
        assert row.rate == pytest.approx(1e-3), "settings that are not mutated are the donor's"


def test_its_learner_uses_the_mutated_weights(recorded: Recorder) -> None:
    for donor, row in exploitations(recorded.rows):
        ratio = row.used["CartPole-v1"] / donor.used["CartPole-v1"]
        assert ratio == pytest.approx(1.2) or ratio == pytest.approx(0.8)
        assert row.used["Pendulum-v1"] in (2.0, 4.0)
    assert recorded.rows[0].used == {"CartPole-v1": 1.0, "Pendulum-v1": 2.0}
    last = {row.trial: row.used for row in recorded.rows}
    assert last.keys() == recorded.weights.keys() == {"trial_00000", "trial_00001"}
    for trial, weights in recorded.weights.items():
        assert last[trial] == pytest.approx(weights)


def test_the_other_trial_goes_on_where_it_was(population: list[Reported]) -> None:
    left = {row.fingerprint: row for row in population}
    own = [(left[row.loaded], row) for row in population if row.loaded and left[row.loaded].trial == row.trial]
    assert own
    for before, row in own:
        assert (row.iteration, row.used) == (before.iteration + 1, before.used)


@pytest.mark.usefixtures("ray_cluster")
def test_successive_halving_stops_the_worse_trial_of_the_search_file(tmp_path: Path) -> None:
    changes = {
        "env_runners.num_envs_per_env_runner": 2,
        "env_runners.rollout_fragment_length": 32,
        "rl_module.model_config.d_model": "!choice [8, 16]",
        "training.actor_lr": "!grid_search [1e-3, 1e-4]",
        "training.num_epochs": 1,
        "tune.num_samples": 1,
        # One after the other, and compared by their rates: it is certain which falls behind.
        "tune.max_concurrent_trials": 1,
        "tune.metric": "learners/shared/actor_lr",
        "tune.scheduler.grace_period": 256,
        "tune.scheduler.reduction_factor": 2,
        "tune.scheduler.max_t": 768,
    }
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    file = ROOT / "tune_configs" / "search.yaml"
    done = call_cli("train", file, *settings, "--stop-steps", 768, "--episodes", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results" / "search"
    for trial, iterations in (("trial_00000", 3), ("trial_00001", 1)):
        rows = read_progress(results / trial / "progress.csv")
        assert [row["training_iteration"] for row in rows] == list(range(1, iterations + 1))
        assert [row["num_env_steps_sampled_lifetime"] for row in rows][-1] == 256 * iterations
        assert any(line.startswith(f" {trial}") and f" {iterations} " in line for line in done.stdout.splitlines())
        (checkpoint,) = (results / trial).glob("checkpoint_*")
        assert read_checkpoint(checkpoint).network.to_dict()["d_model"] in (8, 16)
    assert (results / "evaluation.csv").is_file() and (results / "learning_curves.png").is_file()
    assert not (results / "progress.csv").exists()
    assert load_config_file(results / "config.yaml").search_spaces.keys() >= {"training.actor_lr", "training.critic_lr"}
