"""Failures of an environment's own code name the environment, the copy and the phase."""

from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toy_envs import Counter, Faulty

from rllib_multienv.envs.errors import EnvFailure, NonFiniteError, check_values
from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.probe import probe_spaces
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


class Returns(gym.Env):
    """Returns what it is told to in one of its second steps (or in its second reset), and all else as it should."""

    def __init__(self, space: gym.Space, **wrong: Any) -> None:
        self.observation_space, self.action_space = space, gym.spaces.Discrete(2)
        self.wrong, self.t, self.resets = wrong, 0, 0

    def _obs(self) -> Any:
        space = self.observation_space
        return np.int64(space.start) if isinstance(space, gym.spaces.Discrete) else np.zeros(space.shape, space.dtype)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.resets = 0, self.resets + 1
        if self.resets == 2 and "reset" in self.wrong:
            return self.wrong["reset"]
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if self.t == 2 and "step" in self.wrong:
            return self.wrong["step"]
        wrong = self.wrong if self.t == 2 and self.resets == 1 else {}
        names = {"obs": self._obs(), "reward": 1.0, "terminated": False, "truncated": self.t == 3, "info": {}}
        return tuple(wrong.get(name, right) for name, right in names.items())


PAIR = gym.spaces.Box(-1, 1, (2,), np.float32)
BYTES = gym.spaces.Box(0, 255, (2,), np.uint8)
NONSENSE: list[tuple[gym.Space, dict[str, Any], str]] = [
    (PAIR, {"obs": np.float32(7)}, r"step.*shape \(\), but its space says \(2,\)"),
    (PAIR, {"obs": np.zeros((1, 2), np.float32)}, r"step.*shape \(1, 2\), but its space says \(2,\)"),
    (PAIR, {"obs": [0.0, 0.0, 0.0]}, r"step.*shape \(3,\), but its space says \(2,\)"),
    (PAIR, {"obs": None}, r"step.*shape \(\), but its space says \(2,\)"),
    (PAIR, {"obs": np.array(["a", "b"])}, "step.*dtype <U1, but its space says float32"),
    (PAIR, {"obs": np.array([1j, 0])}, "step.*dtype complex128, but its space says float32"),
    (PAIR, {"reset": (np.zeros(3, np.float32), {})}, r"reset.*shape \(3,\), but its space says \(2,\)"),
    (BYTES, {"obs": np.array([0.5, 1.0])}, "step.*dtype float64, but its space says uint8"),
    (BYTES, {"obs": np.array([0, 256])}, "step.*values from 0 to 256, too large for uint8"),
    (gym.spaces.Discrete(3, start=1), {"obs": 4}, r"step.*observation 4 is outside its space Discrete\(3, start=1\)"),
    (gym.spaces.Discrete(3), {"reset": (-1, {})}, "reset.*observation -1 is outside its space"),
    (PAIR, {"reward": None}, "step.*reward must be a number, not None"),
    (PAIR, {"reward": "1"}, "step.*reward must be a number, not '1'"),
    (PAIR, {"reward": np.zeros(2)}, r"step.*reward must be a number, not array\(\[0., 0.\]\)"),
    (PAIR, {"terminated": None}, "step.*terminated must be True or False, not None"),
    (PAIR, {"truncated": np.nan}, "step.*truncated must be True or False, not nan"),
    (PAIR, {"step": (np.zeros(2), 0.0, False, {})}, r"step.*must return \(observation, reward, terminated, truncated"),
    (PAIR, {"reset": PAIR.sample()[:1]}, r"reset.*must return \(observation, info\)"),
]


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(("space", "wrong", "text"), NONSENSE)
def test_nonsense_is_refused_and_named(backend: Any, space: gym.Space, wrong: dict[str, Any], text: str) -> None:
    env = EnvCopies(EnvSpec("returns", make=Returns, kwargs={"space": space, **wrong}, backend=backend), 1)
    env.reset()
    with pytest.raises(EnvFailure, match=rf"(?s)'returns' \(copy 0\) failed in {text}"):
        for _ in range(4):
            env.step(np.zeros(1, np.int64))
    env.close()


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("space", "right"),
    [
        (PAIR, {"obs": [0, 1]}),
        (PAIR, {"obs": np.zeros(2)}),
        (BYTES, {"obs": [0, 255]}),
        (gym.spaces.Discrete(3), {"obs": np.int32(2)}),
        (gym.spaces.Discrete(3), {"obs": np.array(2)}),
        (PAIR, {"reward": np.array([1.0])}),
        (PAIR, {"reward": np.float32(1)}),
        (PAIR, {"reward": True}),
        (PAIR, {"terminated": np.bool_(False), "truncated": 0}),
        (PAIR, {"terminated": np.array([False])}),
    ],
)
def test_usual_liberties_are_taken(backend: Any, space: gym.Space, right: dict[str, Any]) -> None:
    env = EnvCopies(EnvSpec("returns", make=Returns, kwargs={"space": space, **right}, backend=backend), 1)
    env.reset()
    steps = [env.step(np.zeros(1, np.int64)) for _ in range(4)]
    env.close()
    assert [step.rewards.tolist() for step in steps] == [[1.0]] * 4
    assert [bool(step.truncated[0]) for step in steps] == [False, False, True, False]
    if "obs" in right:
        assert np.array_equal(steps[1].obs[0], right["obs"])


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("quantity", ["obs", "final", "reward"])
@pytest.mark.parametrize(("bad", "problem"), [(np.nan, "is not finite"), (1e30, r"is larger than 1e\+19")])
def test_numbers_that_nobody_can_learn_from_are_placed(backend: Any, quantity: str, bad: float, problem: str) -> None:
    wrong = {"reward": bad} if quantity == "reward" else {"obs": np.array([0, bad], np.float32)}
    wrong |= {"truncated": True} if quantity == "final" else {}
    env = EnvCopies(EnvSpec("returns", make=Returns, kwargs={"space": PAIR, **wrong}, backend=backend), 2)
    env.reset()
    env.step(np.zeros(2, np.int64))
    name = "reward" if quantity == "reward" else "observation"
    with pytest.raises(NonFiniteError, match=rf"'returns' \(copy 0\): the {name} {problem} at step 2"):
        env.step(np.zeros(2, np.int64))
    env.close()


class Awkward(Counter):
    """Infos whose arrays change their length and which hold what cannot be pickled; some calls end the program."""

    def __init__(self, leaves: str = "") -> None:
        if leaves == "make":
            sys.exit(3)
        super().__init__()
        self.leaves = leaves

    def reset(self, **kwargs: Any) -> Any:
        obs, info = super().reset(**kwargs)
        return obs, {**info, "lock": threading.Lock()}

    def step(self, action: Any) -> Any:
        obs, *rest, info = super().step(action)
        if self.leaves == "step":
            sys.exit(3)
        return obs, *rest, {**info, "path": np.zeros(self.t), "nested": {"lock": threading.Lock()}}

    def close(self) -> None:
        if self.leaves == "close":
            raise AttributeError("no viewer")


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_infos_are_the_environments_business(backend: Any) -> None:
    env = EnvCopies(EnvSpec("awkward", make=Awkward, backend=backend), 2)
    env.reset()
    steps = [env.step(np.zeros(2, np.int64)) for _ in range(8)]
    env.close()
    assert [len(step.infos[1]["path"]) for step in steps] == [1, 2, 3, 1, 2, 3, 4, 1]
    assert [step.reset_infos[1]["begun"] for step in steps if step.reset_infos] == [1, 2]


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("leaves", ["make", "step"])
def test_an_environment_that_exits_has_failed(backend: Any, leaves: str) -> None:
    with pytest.raises(EnvFailure, match=r"'awkward'.*SystemExit: 3") as caught:
        env = EnvCopies(EnvSpec("awkward", make=Awkward, kwargs={"leaves": leaves}, backend=backend), 2)
        env.reset()
        try:
            env.step(np.zeros(2, np.int64))
        finally:
            env.close()
    assert caught.value.phase == leaves


def test_failure_to_close_is_a_warning_that_names_the_environment() -> None:
    spec = EnvSpec("awkward", make=Awkward, kwargs={"leaves": "close"})
    with pytest.warns(UserWarning, match=r"'awkward' failed in close\(\): AttributeError: no viewer"):
        assert probe_spaces(spec).obs_size == 2
    env = EnvCopies(spec, 2)
    with pytest.warns(UserWarning, match=r"'awkward' failed in close"):
        env.close()
    env.close()


class Stuck(Counter):
    def step(self, action: Any) -> Any:
        threading.Event().wait()


def test_close_ends_processes_that_are_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    env = EnvCopies(EnvSpec("stuck", make=Stuck, backend="async"), 2)
    env.reset()

    def interrupted(phase: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(env.env, "_answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step(np.zeros(2, np.int64))
    processes = env.env._processes
    env.close()
    assert [process.is_alive() for process in processes] == [False, False]


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
    check_values("lander", "observation", obs, 1)
    obs[2, 1] = bad
    with pytest.raises(NonFiniteError, match=r"'lander' \(copy 2\): the observation is not finite") as caught:
        check_values("lander", "observation", obs, 17)
    error = caught.value
    assert (error.env_id, error.copy, error.quantity, error.step) == ("lander", 2, "observation", 17)
    assert "step 17" in str(error)
    assert "lander" in str(error)


def test_large_numbers_are_fine_and_absurd_ones_are_placed() -> None:
    check_values("big", "reward", np.array([1e18, -1e18]), 1)
    check_values("whole", "observation", np.array([[2**62, -(2**62)]]), 1)
    for dtype in (np.float32, np.float64):
        with pytest.raises(NonFiniteError, match=r"\(copy 1\): the reward is larger than 1e\+19 at step 3: -3.*e\+38"):
            check_values("big", "reward", np.array([0, -3e38], dtype), 3)
    with pytest.raises(NonFiniteError, match="is not finite"):
        check_values("small", "observation", np.full((1, 2), np.inf, np.float16), 1)


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
