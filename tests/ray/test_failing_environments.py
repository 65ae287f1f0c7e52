"""An environment that fails stops training by name, or, where that is asked for, costs a fragment that is counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.callbacks.callbacks import RLlibCallback
from tiny_runs import make_runner, running, tiny_config
from toy_envs import Breaking, Counter

from rllib_multienv import EnvSpec, MultiEnvPPOConfig
from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.env_runners import lockstep
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError

COUNTER = EnvSpec("counter", make=Counter)
NOT_FINITE = [("nan_observation", "observation"), ("inf_observation", "observation"), ("nan_reward", "reward"),
              ("inf_reward", "reward")]  # fmt: skip


class LastIsNan(Breaking):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = LastIsNan.made
        LastIsNan.made += 1

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        return (np.full(3, np.nan) if rest[2] and self.number % 3 == 2 else obs), *rest


def config(fault: str, once: Path | None = None, at: int = 6) -> MultiEnvPPOConfig:
    """`Counter` beside an environment whose copies fail at their 6th step, or one of them once."""
    kwargs: dict[str, Any] = {"fault": fault, "at": at}
    if once is not None:
        once.touch()
        kwargs["once"] = str(once)
    return tiny_config([COUNTER, EnvSpec("broken", make=Breaking, kwargs=kwargs)])


def counts(runner: Any, env_id: str) -> list[float]:
    pieces = [*runner._env_to_module[NormalizeObservations], *runner._env_to_module[RewardScale]]
    return [piece.normalizers[env_id].moments.total().count for piece in pieces]


@pytest.mark.parametrize(
    ("fault", "text"), [("step", "ZeroDivisionError: wheel came off"), ("reset", "KeyError: 'level 7'")]
)
def test_training_stops_and_names_the_environment(ray_cluster: None, fault: str, text: str) -> None:
    with running(config(fault)) as algo, pytest.raises(EnvFailure, match=rf"'broken' \(copy 0\) failed.*{text}"):
        algo.train()


def test_error_in_a_remote_runner_reaches_the_user(ray_cluster: None) -> None:
    with running(config("step").env_runners(num_env_runners=1)) as algo:
        with pytest.raises(EnvFailure, match=r"'broken' \(copy 0\) failed in step\(\): ZeroDivisionError") as caught:
            algo.train()
        assert "wheel came off" in str(caught.value.__cause__)
        assert "toy_envs.py" in str(caught.value.__cause__)  # the place in the user's code


def test_failure_to_make_an_environment_in_a_remote_runner_reaches_the_user(ray_cluster: None) -> None:
    here = os.getpid()

    def make() -> Counter:
        if os.getpid() != here:
            raise OSError("no licence")
        return Counter()

    gym.register("Licensed-v0", entry_point=make)  # which the runner learns from the spec
    try:
        with (
            running(tiny_config(["Licensed-v0"]).env_runners(num_env_runners=1)) as algo,
            pytest.raises(EnvFailure, match="'Licensed-v0' could not be made: OSError: no licence"),
        ):
            algo.train()
    finally:
        del gym.registry["Licensed-v0"]


def test_runner_that_dies_is_replaced_and_the_others_go_on(ray_cluster: None, tmp_path: Path) -> None:
    made = config("exit", tmp_path / "once").env_runners(num_env_runners=2)
    made.fault_tolerance(delay_between_env_runner_restarts_s=0.0)
    with running(made) as algo:
        result = algo.train()
        assert result["env_runners"]["num_module_steps_sampled_lifetime"] == {"counter": 32}
        for _ in range(60):
            result = algo.train()
            if "broken" in result["env_runners"]["num_module_steps_sampled_lifetime"]:
                break
        steps = result["env_runners"]["num_module_steps_sampled_lifetime"]
        assert steps["broken"] == 32
        assert np.isfinite(result["learners"]["broken"]["policy_loss"])
        # The statistics of the runner that went on were kept, and the new runner has them.
        assert counts(algo.env_runner, "counter") == [steps["counter"]] * 2
        assert counts(algo.env_runner, "broken") == [32] * 2
        remote = algo.env_runner_group.foreach_env_runner(
            lambda r: [counts(r, "counter"), counts(r, "broken")], local_env_runner=False
        )
        assert remote == [[[steps["counter"]] * 2, [32] * 2]] * 2


def test_error_in_remote_evaluation_reaches_the_user(ray_cluster: None) -> None:
    made = config("step", at=40).evaluation(
        evaluation_num_env_runners=1, evaluation_duration=30, evaluation_duration_unit="episodes"
    )
    with running(made) as algo:
        algo.train()
        with pytest.raises(EnvFailure, match=r"'broken' \(copy \d\) failed in step\(\): ZeroDivisionError"):
            algo.evaluate()


def test_error_in_a_users_callback_reaches_the_user() -> None:
    class Wrong(RLlibCallback):
        def on_episode_end(self, **kwargs: Any) -> None:
            raise LookupError("no such key")

    runner = make_runner(config("").callbacks(Wrong))
    failure, nothing = runner.sample_fragments(["counter"], {"counter": 16})
    assert nothing is None
    with pytest.raises(LookupError, match="no such key"):
        failure.reraise()


def test_training_goes_on_without_the_lost_fragment(ray_cluster: None, tmp_path: Path) -> None:
    made = config("step", tmp_path / "once").fault_tolerance(restart_failed_sub_environments=True)
    with running(made) as algo:
        result = algo.train()
        assert result["env_runners"]["num_fragments_lost_lifetime"] == {"broken": 1}
        assert result["env_runners"]["num_module_steps_sampled_lifetime"] == {"counter": 32}
        assert "broken" not in result["learners"]
        assert np.isfinite(result["learners"]["counter"]["policy_loss"])
        assert counts(algo.env_runner, "broken") == [0, 0]
        for _ in range(2):
            result = algo.train()
        assert result["env_runners"]["num_fragments_lost_lifetime"] == {"broken": 1}
        assert result["env_runners"]["num_module_steps_sampled_lifetime"] == {"counter": 96, "broken": 64}
        assert result["env_runners"]["module_episode_len_mean"]["broken"] == 4
        assert np.isfinite(result["learners"]["broken"]["policy_loss"])
        assert counts(algo.env_runner, "broken") == [64, 64]


def test_iteration_in_which_everything_is_lost(ray_cluster: None, tmp_path: Path) -> None:
    made = config("step").environment(envs=[config("step", tmp_path / "once").env_specs[1]])
    with running(made.fault_tolerance(restart_failed_sub_environments=True)) as algo:
        assert algo.train()["env_runners"]["num_fragments_lost_lifetime"] == {"broken": 1}
        result = algo.train()
        assert result["learners"]["broken"]["num_module_steps_trained_lifetime"] == 32
        assert result["env_runners"]["num_fragments_lost_lifetime"] == {"broken": 1}


def test_tolerated_failure_begins_new_episodes_and_tells_callbacks(tmp_path: Path) -> None:
    made: list[str] = []
    tolerant = config("step", tmp_path / "once").callbacks(
        on_environment_created=lambda *, env_context, **kwargs: made.append(env_context["env_id"])
    )
    runner = make_runner(tolerant.fault_tolerance(restart_failed_sub_environments=True))
    assert {c.module_id for c in runner.sample()} == {"counter"}
    assert made == ["counter", "broken", "broken"]
    chunks = [c for c in runner.sample() if c.module_id == "broken"]
    assert [(len(c), c.t_started, c.is_truncated) for c in chunks] == [(4, 0, True)] * 8


def test_reset_that_fails_once_in_a_while_is_tolerated(tmp_path: Path) -> None:
    tolerant = config("reset", tmp_path / "once", at=0)  # the very first reset
    runner = make_runner(tolerant.fault_tolerance(restart_failed_sub_environments=True))
    assert {c.module_id for c in runner.sample()} == {"counter", "broken"}
    # One that always fails is not.
    runner = make_runner(config("reset", at=0).fault_tolerance(restart_failed_sub_environments=True))
    with pytest.raises(EnvFailure, match=r"'broken' \(copy 0\) failed in reset\(\)"):
        runner.sample()


@pytest.mark.parametrize(("fault", "quantity"), NOT_FINITE)
def test_what_is_not_finite_stops_training(ray_cluster: None, fault: str, quantity: str) -> None:
    with (
        running(config(fault)) as algo,
        pytest.raises(NonFiniteError, match=rf"'broken' \(copy 0\): the {quantity} is not finite at step 6") as caught,
    ):
        algo.train()
    error = caught.value
    assert (error.env_id, error.quantity, error.step, error.copy) == ("broken", quantity, 6, 0)


def test_final_observation_that_is_not_finite_names_its_copy() -> None:
    made = tiny_config([EnvSpec("last", make=LastIsNan)])
    made.validate()  # makes one copy to look at its spaces
    LastIsNan.made = 0
    runner = make_runner(made.env_runners(num_envs_per_env_runner=3))
    with pytest.raises(NonFiniteError, match=r"'last' \(copy 2\): the observation is not finite at step 4"):
        runner.sample()


@pytest.mark.parametrize(("fault", "_quantity"), NOT_FINITE)
def test_dropped_fragments_are_counted_and_leave_no_trace(tmp_path: Path, fault: str, _quantity: str) -> None:
    runner = make_runner(config(fault, tmp_path / "once").environment(on_nonfinite="drop"))
    assert {c.module_id for c in runner.sample()} == {"counter"}
    metrics = runner.get_metrics()
    assert metrics["num_fragments_lost_lifetime"]["broken"].peek() == 1
    assert "broken" not in metrics["num_module_steps_sampled"]
    assert (counts(runner, "broken"), counts(runner, "counter")) == ([0, 0], [32, 32])
    sampled = runner.sample_rollouts()
    assert sampled["broken"].steps == 32
    assert counts(runner, "broken") == [32, 32]
    assert np.isfinite(sampled["broken"].obs).all() and (sampled["broken"].rewards == 1.0).all()


def test_each_kind_of_failure_has_a_tolerance_of_its_own() -> None:
    with pytest.raises(EnvFailure):
        make_runner(config("step").environment(on_nonfinite="drop")).sample()
    with pytest.raises(NonFiniteError):
        make_runner(config("nan_reward").fault_tolerance(restart_failed_sub_environments=True)).sample()


def test_whole_episodes_of_an_environment_that_always_fails() -> None:
    """Evaluation must end, though no episode ever does."""
    runner = make_runner(config("nan_reward", at=2).environment(on_nonfinite="drop"))
    with pytest.raises(RuntimeError, match="'broken' lost 10 fragments in a row") as caught:
        runner.sample(num_episodes=2)
    assert isinstance(caught.value.__cause__, NonFiniteError)


class Endless(Counter):
    def step(self, action: Any) -> Any:
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


def test_an_episode_that_never_ends_is_named_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lockstep, "MAX_EPISODE_STEPS", 200)
    monkeypatch.setattr(lockstep, "SLOW_EPISODE_S", 0.0)
    runner = make_runner(tiny_config([COUNTER, EnvSpec("endless", make=Endless)]))
    with pytest.raises(EnvFailure, match=r"'endless' failed.*not ended after 256 steps.*max_episode_steps"):
        runner.sample(num_episodes=1)
    said = [record.message for record in caplog.records if "'endless'" in record.message]
    assert len(said) == 1 and "has not ended after 64 steps" in said[0]


def test_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="on_nonfinite='ignore': must be 'raise' or 'drop'"):
        config("").environment(on_nonfinite="ignore").validate()
