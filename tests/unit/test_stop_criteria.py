"""The `stop` section: when a trial ends, and how long that still takes."""

from __future__ import annotations

import pickle

import pytest

from rllib_multienv.config_files.stopping import StopCriteria

RETURNS = "env_runners/module_episode_return_mean"


def result(iteration: int, **returns: float) -> dict:
    return {
        "training_iteration": iteration,
        "time_total_s": 10.0 * iteration,
        "num_env_steps_sampled_lifetime": 1000 * iteration,
        "env_runners": {"module_episode_return_mean": returns},
    }


def test_one_of_several_criteria_is_enough() -> None:
    stop = StopCriteria.of({"training_iteration": 9, "time_total_s": 30})
    assert not stop("trial", result(2))
    assert stop("trial", result(3))
    assert stop.reached(result(3)) == "time_total_s >= 30"


def test_one_environments_return_can_stop_a_trial() -> None:
    stop = StopCriteria.of({f"{RETURNS}/A": 100})
    assert not stop("trial", result(1, A=99))
    assert stop("trial", result(1, A=100))


def test_nested_keys_may_be_written_nested() -> None:
    assert StopCriteria.of({"env_runners": {"module_episode_return_mean": {"A": 1}}}) == StopCriteria.of(
        {f"{RETURNS}/A": 1}
    )


def test_criteria_under_all_of_count_together() -> None:
    stop = StopCriteria.of({"training_iteration": 50, "all_of": {f"{RETURNS}/A": 1, f"{RETURNS}/B": 2}})
    assert not stop("trial", result(1, A=5, B=1))
    assert stop("trial", result(1, A=5, B=2))
    assert stop("trial", result(50, A=0, B=0))


def test_a_value_that_is_missing_or_nan_has_reached_nothing() -> None:
    stop = StopCriteria.of({f"{RETURNS}/A": -1e9})
    assert not stop("trial", result(1))
    assert not stop("trial", result(1, A=float("nan")))


def test_without_criteria_a_trial_goes_on() -> None:
    assert not StopCriteria()("trial", result(1000))


def test_time_left_is_that_of_the_first_criterion_to_come() -> None:
    stop = StopCriteria.of({"time_total_s": 100, "num_env_steps_sampled_lifetime": 4000})
    # 2000 steps in 20 s: 2000 more take 20 s, while the time limit is 80 s away.
    assert stop.seconds_left(result(2)) == pytest.approx(20)
    assert stop.seconds_left(result(2), {"num_env_steps_sampled_lifetime": 10.0}) == pytest.approx(80)


def test_time_left_is_unknown_where_only_returns_count() -> None:
    assert StopCriteria.of({f"{RETURNS}/A": 1}).seconds_left(result(2, A=0.5)) is None


def test_it_can_be_pickled_for_tune() -> None:
    stop = StopCriteria.of({"training_iteration": 3})
    assert pickle.loads(pickle.dumps(stop)) == stop
