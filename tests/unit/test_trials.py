"""Trials: K episodes of one task that look like one episode, on every backend that has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from toy_family import Guess

from rllib_multienv import EnvSpec
from rllib_multienv.envs.make import make_env, opened
from rllib_multienv.envs.trials import Trial
from rllib_multienv.envs.vector import EnvCopies, VectorStep, resolve_backend

GUESS = EnvSpec("guess", make=Guess, trial_episodes=2)


def steps(copies: EnvCopies, actions: list[int]) -> Iterator[VectorStep]:
    """Steps in which all copies act alike."""
    for action in actions:
        yield copies.step(np.full(copies.num_envs, action))


def test_the_end_of_an_inner_episode_is_no_end_and_shows_the_next_one() -> None:
    with opened(GUESS, seed=0) as env:
        env.reset()
        found = [env.step(0) for _ in range(6)]
    assert [float(obs[0]) for obs, *_ in found] == [1, 2, 0, 1, 2, 3]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in found] == [(False, False)] * 5 + [
        (False, True)
    ]
    assert found[2][4] == {"t": 3, "episode": "begun"}


def test_the_last_episode_ends_the_trial_as_it_ended() -> None:
    env = Trial(Guess(), 2)
    env.set_task(np.array([-1.0]))
    env.reset()
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (True, False)]


def test_a_task_lasts_for_a_trial_and_the_next_trial_has_its_own() -> None:
    env = Trial(Guess(), 2)
    seen = []
    for trial in range(20):
        env.reset(seed=0 if trial == 0 else None)
        tasks = []
        for _ in range(6):
            env.step(0)
            tasks.append(float(env.unwrapped.task[0]))
        assert len(set(tasks)) == 1
        seen.append(tasks[0])
    assert set(seen) == {0, 1}
    env.reset(seed=0)
    assert env.unwrapped.task[0] == seen[0]


def test_a_set_task_stays_until_another_is_set() -> None:
    env = Trial(Guess(), 1)
    tasks = []
    for task in (np.array([3.0]), np.array([3.0]), None):
        env.set_task(task)
        tasks += [float(env.unwrapped.task[0]) for _ in range(2) if env.reset()]
    assert tasks[:4] == [3.0] * 4 and set(tasks[4:]) <= {0.0, 1.0}


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_copies_say_where_inner_episodes_end(backend: str) -> None:
    copies = EnvCopies(dataclasses.replace(GUESS, backend=backend), 2, seed=0)
    try:
        copies.reset()
        found = list(steps(copies, [0] * 6))
    finally:
        copies.close()
    ends = [step.episode_ends for step in found]
    assert [end.tolist() for end in ends if end is not None] == [[False] * 2] * 2 + [[True] * 2] + [[False] * 2] * 2 + [
        [True] * 2
    ]
    assert [bool(step.truncated.any()) for step in found] == [False] * 5 + [True]
    assert set(found[5].final_obs) == {0, 1} and not found[2].final_obs


def test_without_trials_there_are_no_inner_ends() -> None:
    copies = EnvCopies(EnvSpec("guess", make=Guess), 1, seed=0)
    copies.reset()
    assert copies.step(np.zeros(1, int)).episode_ends is None
    copies.close()


def test_a_trial_is_resumed_in_its_middle() -> None:
    spec = dataclasses.replace(GUESS, trial_episodes=3)
    first, second = EnvCopies(spec, 2, seed=0), EnvCopies(spec, 2, seed=1)
    first.reset()
    list(steps(first, [0] * 4))
    state = first.snapshot()
    second.restore(state)
    for ours, theirs in zip(steps(first, [0] * 30), steps(second, [0] * 30), strict=True):
        np.testing.assert_array_equal(ours.obs, theirs.obs)
        np.testing.assert_array_equal(ours.rewards, theirs.rewards)  # also the tasks of later trials
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
    first.close()
    second.close()


def test_any_environment_can_have_trials() -> None:
    copies = EnvCopies(EnvSpec("CartPole-v1", trial_episodes=2), 1, seed=0)
    copies.reset()
    ends, done = 0, False
    while not done:
        step = copies.step(np.zeros(1, int))
        assert step.episode_ends is not None
        ends, done = ends + int(step.episode_ends[0]), bool(step.terminated[0])
    assert ends == 2
    copies.close()


def test_the_spec_is_checked_and_written_down() -> None:
    assert EnvSpec.from_dict(GUESS.to_dict()).trial_episodes == 2
    assert EnvSpec.of({"id": "CartPole-v1", "trial_episodes": 3}).trial_episodes == 3
    assert resolve_backend(EnvSpec("CartPole-v1", trial_episodes=3)) == "sync"
    with pytest.raises(ValueError, match="trial_episodes must be at least 1, not 0"):
        EnvSpec("CartPole-v1", trial_episodes=0)
    with pytest.raises(ValueError, match="backend 'envpool' has no trials"):
        EnvSpec("CartPole-v1", backend="envpool", trial_episodes=2)
    maze = EnvSpec("maze", make="multienv/TwoGoalMaze-v0", kwargs={"exploration_episodes": 2}, trial_episodes=2)
    with pytest.raises(ValueError, match=r"'maze': exploration_episodes=2 leave no .* trial_episodes to at least 3"):
        make_env(maze)
