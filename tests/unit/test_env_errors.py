"""Failures of an environment's own code name the environment, the copy and the phase."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from toy_envs import Counter, Faulty

from rllib_multienv.envs.errors import EnvFailure, NonFiniteError, check_finite
from rllib_multienv.envs.make import make_env, probe_spaces
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import EnvSpec


def faulty(fault: str, backend: str = "sync") -> EnvSpec:
    return EnvSpec("broken", make=Faulty, kwargs={"fault": fault}, backend=backend)  # type: ignore[arg-type]


def run(spec: EnvSpec) -> None:
    """Three copies; only copy 1 takes the action that shows a fault of `step`."""
    env = EnvCopies(spec, 3)
    try:
        env.reset()
        for _ in range(4):
            env.step(np.array([0, 1, 0]))
    finally:
        env.close()


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("fault", "phase", "copy", "text"),
    [
        ("reset", "reset", 0, "KeyError: 'level'"),
        ("step", "step", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_failure_is_placed(backend: str, fault: str, phase: str, copy: int, text: str) -> None:
    with pytest.raises(EnvFailure, match=text) as caught:
        run(faulty(fault, backend))
    error = caught.value
    assert (error.env_id, error.phase, error.copy) == ("broken", phase, copy)
    assert f"Environment 'broken' (copy {copy}) failed in {phase}()" in str(error)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_failing_constructor_is_named(backend: str) -> None:
    with pytest.raises(EnvFailure, match=r"'broken' could not be made: OSError: no such file: level\.dat"):
        run(faulty("make", backend))


def test_dead_worker_process_is_named() -> None:
    with pytest.raises(EnvFailure, match=r"'broken' \(copy 1\).*died with exit code 7"):
        run(faulty("exit", "async"))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("old_reset", r"reset\(\) must return \(observation, info\)"),
        ("shape", r"shape \(3,\), but its space says \(2,\)"),
        ("old_step", r"step\(\) must return \(observation, reward, terminated, truncated, info\)"),
        ("no_reward", "TypeError"),
    ],
)
def test_nonsense_says_what_would_be_right(fault: str, text: str) -> None:
    with pytest.raises(EnvFailure, match=f"(?s)'broken'.*{text}"):
        run(faulty(fault))


def test_probing_names_the_environment_too() -> None:
    with pytest.raises(EnvFailure, match="'broken' could not be made"):
        probe_spaces(faulty("make"))


def test_callable_that_makes_no_environment() -> None:
    with pytest.raises(EnvFailure, match=r"'nothing'.*must return a gymnasium\.Env"):
        make_env(EnvSpec("nothing", make=lambda: None))  # type: ignore[arg-type, return-value]


def test_unknown_constructor_argument() -> None:
    with pytest.raises(EnvFailure, match=r"'pole' could not be made.*gravitas"):
        make_env(EnvSpec("pole", make="CartPole-v1", kwargs={"gravitas": 3}))


def test_copies_must_be_alike() -> None:
    made: list[int] = []

    def growing() -> Counter:
        env = Counter()
        made.append(1)
        env.action_space = type(env.action_space)(2 + len(made))
        return env

    with pytest.raises(EnvFailure, match=r"'growing' \(copy 1\).*action_space"):
        EnvCopies(EnvSpec("growing", make=growing), 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_placed(bad: float) -> None:
    obs = np.zeros((4, 3), np.float32)
    check_finite("lander", "observation", obs)
    obs[2, 1] = bad
    with pytest.raises(NonFiniteError, match=r"'lander' \(copy 2\): the observation is not finite") as caught:
        check_finite("lander", "observation", obs, step=17)
    error = caught.value
    assert (error.env_id, error.copy, error.quantity, error.step) == ("lander", 2, "observation", 17)
    assert "step 17" in str(error)
    assert "lander" in str(error)


def test_finite_numbers_whose_sum_is_not_are_fine() -> None:
    check_finite("big", "reward", np.array([1e308, 1e308]))
    check_finite("whole", "observation", np.array([[1, 2]]))


def test_errors_cross_process_borders() -> None:
    for error in (EnvFailure("a", "step", "why", 3), NonFiniteError("a", 1, "reward", "nan", 5)):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_number_of_copies_is_checked() -> None:
    with pytest.raises(ValueError, match=r"'counter'.*num_envs"):
        EnvCopies(EnvSpec("counter", make=Counter), 0)


def test_envpool_without_the_environment() -> None:
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match=r"EnvPool has no 'CartPol-v1'.*'CartPole-v1'"):
        EnvCopies(EnvSpec("CartPol-v1", backend="envpool"), 1)
