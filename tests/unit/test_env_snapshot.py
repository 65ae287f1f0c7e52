"""An environment's state, read out in the middle of an episode and put back."""

from __future__ import annotations

import pickle
import random
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toy_envs import Counter

from rllib_multienv.envs import vector
from rllib_multienv.envs.vector import EnvCopies, VectorStep
from rllib_multienv.spec import EnvSpec


def some_actions(env: EnvCopies, steps: int) -> np.ndarray:
    rng, spaces = np.random.default_rng(0), env.space_spec
    if spaces.discrete:
        return spaces.action_to_env(rng.integers(0, spaces.action_size, (steps, env.num_envs)))
    flat = rng.uniform(-1, 1, (steps * env.num_envs, spaces.action_size))
    return spaces.action_to_env(flat).reshape(steps, env.num_envs, -1)


def same(a: list[VectorStep], b: list[VectorStep]) -> bool:
    names = ("obs", "rewards", "terminated", "truncated")
    return all(np.array_equal(getattr(x, n), getattr(y, n)) for x, y in zip(a, b, strict=True) for n in names)


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "Acrobot-v1",
        "Pendulum-v1",
        "InvertedPendulum-v4",
        "Reacher-v4",
        "HalfCheetah-v4",
        "Ant-v5",
    ],
)
def test_restored_environment_goes_on_bit_for_bit(env_id: str) -> None:
    spec = EnvSpec(env_id, backend="sync")
    env = EnvCopies(spec, 2, seed=1)
    env.reset()
    actions = some_actions(env, 337)
    for action in actions[:37]:
        before = env.step(action)
    state = pickle.loads(pickle.dumps(env.snapshot()))
    went_on = [env.step(action) for action in actions[37:]]
    assert (env.restore(state) == before.obs).all()
    assert same([env.step(action) for action in actions[37:]], went_on)

    fresh = EnvCopies(spec, 2, seed=99)
    assert (fresh.restore(state) == before.obs).all()
    assert same([fresh.step(action) for action in actions[37:]], went_on)


def test_processes_of_their_own_can_be_captured_too() -> None:
    env = EnvCopies(EnvSpec("Reacher-v4", backend="async"), 2, seed=1)
    env.reset()
    actions = some_actions(env, 130)
    for action in actions[:30]:
        env.step(action)
    state = env.snapshot()
    went_on = [env.step(action) for action in actions[30:]]
    env.restore(state)
    assert same([env.step(action) for action in actions[30:]], went_on)
    env.close()


def test_box2d_cannot_be_captured_and_restoring_nothing_begins_anew() -> None:
    pytest.importorskip("Box2D")
    env = EnvCopies(EnvSpec("LunarLander-v3"), 1, seed=0)
    env.reset()
    assert env.snapshot() is None
    assert env.restore(None).shape == (1, 8)


class Messy(Counter):
    """Keeps its state in every kind of plain Python thing, some of it shared."""

    def __init__(self) -> None:
        super().__init__()
        self.recent: deque[float] = deque([0.0], maxlen=3)
        self.python_random = random.Random(0)
        self.helper = Helper(self)
        self.shared = self.helper.values
        self.last: tuple[Any, ...] | None = None

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        self.shared.append(self.np_random.random())
        self.recent.append(self.python_random.random() + len(self.helper.values))
        self.helper.env.last = (sum(self.recent), float(self.action_space.sample()))
        return obs, sum(self.last or ()), terminated, truncated, info


class Helper:
    def __init__(self, env: Any) -> None:
        self.env, self.values = env, [0.0]


def test_state_in_plain_python_objects_and_sharing_are_kept() -> None:
    env = EnvCopies(EnvSpec("messy", make=Messy), 2, seed=0)
    env.reset()
    for copy in env.env.envs:
        copy.action_space.seed(1)
    actions = some_actions(env, 45)
    for action in actions[:5]:
        env.step(action)
    state = env.snapshot()
    went_on = [env.step(action) for action in actions[5:]]
    fresh = EnvCopies(EnvSpec("messy", make=Messy), 2, seed=5)
    fresh.restore(state)
    assert same([fresh.step(action) for action in actions[5:]], went_on)
    restored = fresh.env.envs[0].unwrapped
    assert restored.helper.env is restored
    assert restored.shared is restored.helper.values


class Inside(Counter):
    def __init__(self, inside: str) -> None:
        super().__init__()
        self.thing: Any = {
            "environment": lambda: gym.make("CartPole-v1"),
            "file": lambda: open(__file__),  # noqa: SIM115
            "closure": lambda: {"f": lambda: inside},
            "iterator": lambda: iter([1, 2, 3]),
            "view": lambda: np.zeros(4),
        }[inside]()
        self.window = self.thing[1:3] if inside == "view" else None


@pytest.mark.parametrize("inside", ["environment", "file", "closure", "iterator", "view"])
def test_what_might_not_be_captured_whole_is_not_captured(inside: str) -> None:
    env = EnvCopies(EnvSpec("inside", make=Inside, kwargs={"inside": inside}), 1)
    env.reset()
    assert env.snapshot() is None


class Prices(Counter):
    """Holds a constant table, a table that every copy draws anew, and a map that it changes after `after` steps."""

    def __init__(self, after: int = 99) -> None:
        super().__init__()
        self.table = np.arange(100_000.0)
        self.again = self.table
        self.drawn = np.random.default_rng().random(100_000)
        self.map, self.twin = np.zeros(100_000), np.zeros(100_000)
        self.after = after

    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        if self.t >= self.after:
            self.map[self.t] += 1.0
        return obs, reward + self.table[self.t] + self.drawn[self.t] + self.map.sum() + 10 * self.twin.sum(), *rest


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_large_arrays_that_every_new_copy_has_are_left_out(backend: Any) -> None:
    spec = EnvSpec("prices", make=Prices, backend=backend)
    env = EnvCopies(spec, 2)
    env.reset()
    actions = np.zeros((9, 2), np.int64)
    env.step(actions[0])
    state = env.snapshot()
    assert state is not None
    assert [len(copy) // 800_000 for copy in state["copies"]] == [1, 1]  # of five tables, the one that was drawn
    went_on = [env.step(action) for action in actions]
    fresh = EnvCopies(spec, 2)
    fresh.restore(state)
    assert same([fresh.step(action) for action in actions], went_on)
    if backend == "sync":
        restored = fresh.env.envs[0].unwrapped
        assert restored.again is restored.table
        assert restored.map is not restored.twin
        assert restored.table is not fresh.env.envs[1].unwrapped.table
    env.close()
    fresh.close()


def test_large_arrays_that_have_changed_are_saved_and_restored() -> None:
    spec = EnvSpec("prices", make=Prices, kwargs={"after": 2})
    env = EnvCopies(spec, 1)
    env.reset()
    actions = np.zeros((9, 1), np.int64)
    states, steps = [], []
    for action in actions:
        states.append(env.snapshot())
        steps.append(env.step(action))
    assert [len(state["copies"][0]) // 800_000 for state in states if state] == [1, 1, *[2] * 7]
    # Back to where nothing had changed yet: the table that has changed since is taken from a new copy.
    for start in (1, 5):
        env.restore(states[start])
        assert same([env.step(action) for action in actions[start:]], steps[start:])


def test_large_states_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "LARGE_STATE", 2**20)
    env = EnvCopies(EnvSpec("prices", make=Prices), 4)
    env.reset()
    with pytest.warns(UserWarning, match="'prices': the state of its 4 copies takes 3 MiB of every checkpoint"):
        env.snapshot()


def test_nothing_to_capture_before_the_first_reset() -> None:
    assert EnvCopies(EnvSpec("counter", make=Counter), 1).snapshot() is None


def test_snapshot_of_something_else_is_refused() -> None:
    env = EnvCopies(EnvSpec("counter", make=Counter), 2)
    env.reset()
    with pytest.raises(ValueError, match=r"'counter'.*'other'"):
        EnvCopies(EnvSpec("other", make=Counter), 2).restore(env.snapshot())
    with pytest.raises(ValueError, match=r"2 copies.*3 copies"):
        EnvCopies(EnvSpec("counter", make=Counter), 3).restore(env.snapshot())


def test_snapshot_that_no_longer_fits_begins_new_episodes() -> None:
    env = EnvCopies(EnvSpec("counter", make=Counter), 1)
    env.reset()
    env.step(np.array([0]))
    changed = EnvCopies(EnvSpec("counter", make=Counter, max_episode_steps=9), 1)
    with pytest.warns(UserWarning, match="'counter' begins new episodes"):
        assert changed.restore(env.snapshot()) is None
    assert changed.reset()[0, 1] == 0


@pytest.mark.parametrize("env_id", ["CartPole-v1", "InvertedPendulum-v4", "Reacher-v4"])
def test_a_restored_environment_can_be_captured_again(env_id: str) -> None:
    first, second, third = (EnvCopies(EnvSpec(env_id), 1, seed=seed) for seed in (0, 1, 2))
    first.reset()
    second.restore(first.snapshot())
    again = second.snapshot()
    assert again is not None
    third.restore(again)
    size = first.space_spec.action_size
    action = first.space_spec.action_to_env(np.zeros(1, np.int64) if first.space_spec.discrete else np.zeros((1, size)))
    for _ in range(300):
        assert np.array_equal(first.step(action).obs, third.step(action).obs)
