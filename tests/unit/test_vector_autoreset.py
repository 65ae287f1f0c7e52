"""The true transitions, whatever the backend and its autoreset mode."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from next_step import next_step_counters
from toy_envs import Counter, Grid

from rllib_multienv.envs.make import copy_seeds
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import EnvSpec

B = 3
BACKENDS = ["sync", "async", "NEXT_STEP"]


def copies(kind: str) -> EnvCopies:
    if kind == "NEXT_STEP":
        return next_step_counters(B)
    return EnvCopies(EnvSpec("counter", make=Counter, backend=kind), B, seed=0)  # type: ignore[arg-type]


def experience(env: EnvCopies, steps: int) -> list[list[tuple[Any, ...]]]:
    """Per copy the transitions (obs, action, reward, next obs, terminated, truncated).

    The action depends on the observation only, so that modes that differ in the number of calls agree on it.
    """
    transitions: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
    obs = env.reset()
    for _ in range(steps):
        actions = (obs.sum(axis=1).astype(np.int64)) % 3
        step = env.step(actions)
        for b in range(env.num_envs):
            if step.is_reset[b]:
                continue
            following = step.final_obs.get(b, step.obs[b])
            transitions[b].append(
                (
                    *obs[b].tolist(),
                    int(actions[b]),
                    float(step.rewards[b]),
                    *following.tolist(),
                    bool(step.terminated[b]),
                    bool(step.truncated[b]),
                )
            )
        obs = step.obs
    env.close()
    return transitions


def known(count: int) -> list[tuple[Any, ...]]:
    """What `Counter` does, written down independently."""
    rows: list[tuple[Any, ...]] = []
    episode = 0
    while len(rows) < count:
        length = 3 + episode % 4
        for t in range(length):
            action, last = (episode + t) % 3, t + 1 == length
            reward = 100.0 * episode + t + 1 + action
            ends = (last and episode % 2 == 0, last and episode % 2 == 1)
            rows.append((episode, t, action, reward, episode, t + 1, *ends))
        episode += 1
    return rows[:count]


@pytest.mark.parametrize("kind", BACKENDS)
def test_every_mode_gives_the_true_transitions(kind: str) -> None:
    for rows in experience(copies(kind), 60):
        assert len(rows) >= 45
        assert rows == known(len(rows))


def test_next_step_and_same_step_give_the_same_experience() -> None:
    same, following = experience(copies("sync"), 60), experience(copies("NEXT_STEP"), 60)
    for a, b in zip(same, following, strict=True):
        assert len(b) < len(a)  # the resets took calls
        assert a[: len(b)] == b


def test_step_after_a_done_in_next_step_is_no_experience() -> None:
    env = copies("NEXT_STEP")
    env.reset()
    steps = [env.step(np.full(B, 2)) for _ in range(4)]
    assert [bool(s.is_reset[0]) for s in steps] == [False, False, False, True]
    assert steps[2].obs[0].tolist() == [0, 3]
    assert steps[3].rewards[0] == 0
    assert steps[3].obs[0].tolist() == [1, 0]


@pytest.mark.parametrize("kind", BACKENDS)
def test_truncated_episode_keeps_its_real_final_observation(kind: str) -> None:
    env = copies(kind)
    env.reset()
    step = env.step(np.zeros(B, np.int64))
    while not step.truncated.any():
        step = env.step(np.zeros(B, np.int64))
    assert step.final_obs[1].tolist() == [1, 4]
    assert not step.terminated.any()
    if kind != "NEXT_STEP":
        assert step.obs[1].tolist() == [2, 0]
    env.close()


def test_time_limit_of_the_spec_truncates_with_the_real_observation() -> None:
    env = EnvCopies(EnvSpec("c", make=Counter, max_episode_steps=2), 1)
    env.reset()
    env.step(np.array([0]))
    step = env.step(np.array([0]))
    assert (step.truncated[0], step.terminated[0], step.final_obs[0].tolist()) == (True, False, [0, 2])


def test_steps_are_the_callers_to_keep() -> None:
    env = copies("sync")
    kept = [env.reset()] + [env.step(np.zeros(B, np.int64)).obs for _ in range(3)]
    assert [obs[0].tolist() for obs in kept] == [[0, 0], [0, 1], [0, 2], [1, 0]]


def test_types_are_uniform() -> None:
    env = copies("sync")
    assert env.reset().dtype == np.float32  # though the environment gives float64
    step = env.step(np.zeros(B, np.int64))
    assert (step.obs.dtype, step.rewards.dtype) == (np.float32, np.float64)
    assert (step.terminated.dtype, step.truncated.dtype, step.is_reset.dtype) == (bool, bool, bool)


def test_discrete_spaces_pass_through() -> None:
    env = EnvCopies(EnvSpec("grid", make=Grid), 2)
    assert env.space_spec.flatten_obs(env.reset()).tolist() == [[1, 0, 0, 0]] * 2
    step = env.step(env.space_spec.action_to_env(np.array([0, 2])))
    assert step.obs.tolist() == [-1, 1]


@pytest.mark.parametrize("kind", BACKENDS)
def test_every_copy_has_its_infos(kind: str) -> None:
    env = copies(kind)
    env.reset()
    assert [env.infos[b]["begun"] for b in range(B)] == [0] * B
    steps = [env.step(np.zeros(B, np.int64)) for _ in range(4)]
    env.close()
    assert steps[0].infos[2].get("step") == 1
    assert steps[2].infos[2].get("step") == 3
    after_reset = steps[3].infos[2] if kind == "NEXT_STEP" else steps[2].reset_infos[2]
    assert after_reset.get("begun") == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_underlying_environment_is_a_usual_vector_environment(kind: str) -> None:
    env = copies(kind).env
    theirs = SyncVectorEnv([Counter] * B, autoreset_mode=AutoresetMode.SAME_STEP)
    assert env.observation_space == theirs.observation_space
    assert env.action_space == theirs.action_space
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.set_attr("episode", [5, 6, 7])
    assert env.get_attr("episode") == (5, 6, 7)
    assert [obs.tolist() for obs in env.call("_obs")] == [[5, 0], [6, 0], [7, 0]]
    env.close()


def test_copies_get_different_seeds_and_one_seed_gives_one_run() -> None:
    first, again, other = (EnvCopies(EnvSpec("CartPole-v1", backend="sync"), 4, seed=s) for s in (1, 1, 2))
    a, b, c = first.reset(), again.reset(), other.reset()
    assert len(np.unique(a[:, 0])) == 4
    assert (a == b).all()
    assert (a != c).any()
    assert (first.reset() != a).any()  # only the first reset is seeded


def test_seeds_are_distinct_small_and_stable_under_more_copies() -> None:
    seeds = copy_seeds(7, 1000)
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert copy_seeds(7, 10) == seeds[:10]


def test_envpool_gives_true_transitions() -> None:
    pytest.importorskip("envpool")
    env = EnvCopies(EnvSpec("Pendulum-v1", backend="envpool"), 2, seed=3)
    obs = env.reset()
    assert len(np.unique(obs[:, 2])) == 2
    steps = [env.step(env.space_spec.action_to_env(np.zeros((2, 1)))) for _ in range(203)]
    assert steps[199].truncated.all()
    assert not steps[199].terminated.any()
    assert (steps[199].final_obs[0] == steps[199].obs[0]).all()
    assert [bool(s.is_reset[0]) for s in steps[199:]] == [False, True, False, False]
    # A pendulum moves by little in one step, and jumps when it is reset.
    moved = [np.abs(b.obs - a.obs).max() for a, b in pairwise(steps)]
    assert max(moved[:199]) < 2.0
    env.close()


def test_envpool_is_seeded_and_takes_discrete_and_mujoco_actions() -> None:
    pytest.importorskip("envpool")
    for env_id in ("CartPole-v1", "InvertedPendulum-v4"):
        first, again, other = (EnvCopies(EnvSpec(env_id, backend="envpool"), 2, seed=s) for s in (1, 1, 2))
        a, b, c = first.reset(), again.reset(), other.reset()
        assert (a == b).all()
        assert (a != c).any()
        zeros = np.zeros(2, np.int64) if first.space_spec.discrete else np.zeros((2, 1), np.float32)
        assert (first.step(first.space_spec.action_to_env(zeros)).rewards == 1).all()
