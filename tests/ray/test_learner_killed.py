"""A learner that dies, raises or hangs in an update ends the run at once, by name; Tune goes on from the checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fault_helpers import assert_steps_counted_are_steps_trained
from learner_faults import with_faults
from ray import tune
from tiny_runs import running, tiny_config

from rllib_multienv.learners.learner_group import LearnerFailure

ITERATIONS = 3
TIMEOUT = 3.0

pytestmark = pytest.mark.usefixtures("ray_cluster", "_short_farewell")


@pytest.fixture
def _short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray waits so long for learners to leave their group, also for one that will never do it."""
    monkeypatch.setenv("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", "1")


def test_tune_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    results = tune.Tuner(
        "MultiEnvPPO",
        param_space=with_faults(tiny_config(), faults, "die_2_1"),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            stop={"env_runners/num_env_steps_sampled_lifetime": 64 * ITERATIONS},
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            verbose=0,
        ),
    ).fit()
    assert results.num_errors == 0
    metrics = results[0].metrics
    assert metrics["training_iteration"] == ITERATIONS and metrics["iterations_since_restore"] == 2
    assert metrics["env_runners"]["num_env_steps_sampled_lifetime"] == 64 * ITERATIONS
    assert_steps_counted_are_steps_trained(metrics)
    # The learner did die, and the run went on from the iteration before.
    assert {path.name for path in faults.iterdir()} == {"restarts"}
    assert (faults / "restarts").read_text().split() == ["1"]
    errors = next(tmp_path.rglob("error.txt")).read_text()
    assert "Learner 1 of 2 died during an update" in errors and "last checkpoint" in errors


def test_a_learner_that_raises_is_named(tmp_path: Path) -> None:
    message = r"Learner 0 of 2 failed during an update.*ZeroDivisionError.*no rows"
    with running(with_faults(tiny_config(), tmp_path, "raise_2_0")) as algo:
        algo.train()
        begun = time.monotonic()
        with pytest.raises(LearnerFailure, match=f"(?s){message}"):
            algo.train()
        assert time.monotonic() - begun < 30


def test_a_learner_that_hangs_is_named(tmp_path: Path) -> None:
    config = with_faults(tiny_config(), tmp_path, "sleep_2_1").learners(learner_timeout_s=TIMEOUT)
    with running(config) as algo:
        algo.train()
        begun = time.monotonic()
        # Learner 0 waits for it in vain, and is not named.
        with pytest.raises(
            LearnerFailure, match=r"no answer from learner 1 \(InvertedPendulum-v4\)\..*learner_timeout_s"
        ):
            algo.train()
        assert TIMEOUT <= time.monotonic() - begun < 30
