"""Inputs beside an observation: what was done and given, age and seed of the episode; copies that begin apart."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import EnvSpec

GUESS = EnvSpec("guess", make="multienv/Guess-v0", kwargs={"horizon": 3, "task": [2.0]})


def steps(copies: EnvCopies, count: int) -> np.ndarray:
    """Observations [T, B, ...] of so many steps of right answers."""
    return np.stack([copies.step(np.full(copies.num_envs, 2)).obs for _ in range(count)])


def test_age_grows_in_an_episode_and_a_seed_stays_for_as_long() -> None:
    copies = EnvCopies(GUESS, 2, seed=0, inputs=("age", "seed"))
    obs = np.concatenate([copies.reset()[None], steps(copies, 5)])  # [T, B, asked + age + seed]
    np.testing.assert_allclose(np.expm1(obs[:, 0, 1]), [0, 1, 2, 0, 1, 2], atol=1e-6)
    seeds = obs[:, :, 2:]
    assert seeds.shape[2] == 4 and (seeds[:3] == seeds[0]).all() and (seeds[3:] == seeds[3]).all()
    assert len(np.unique(seeds[[0, 3]].reshape(4, 4), axis=0)) == 4
    assert copies.space_spec.obs_names[1:3] == ("age of the episode", "random number 0")
    again = EnvCopies(GUESS, 2, seed=0, inputs=("age", "seed"))
    np.testing.assert_array_equal(again.reset(), obs[0])


def test_seeds_that_are_drawn_after_a_snapshot_come_back() -> None:
    copies = EnvCopies(GUESS, 2, seed=0, inputs=("previous_reward", "seed", "age"))
    copies.reset()
    steps(copies, 2)
    saved = copies.snapshot()
    expected = steps(copies, 4)
    np.testing.assert_array_equal(copies.restore(saved), copies.restore(saved))
    np.testing.assert_array_equal(steps(copies, 4), expected)


@pytest.mark.parametrize("backend", ["vector", "sync", "async"])
def test_some_copies_begin_while_others_go_on(backend: str) -> None:
    copies = EnvCopies(
        EnvSpec("guess", make=GUESS.make, kwargs=GUESS.kwargs, backend=backend), 3, seed=0, inputs=("age",)
    )
    copies.reset()
    steps(copies, 2)
    obs, infos = copies.begin(np.array([True, False, True]))
    assert obs.shape == (2, 2) and not obs[:, 1].any() and infos == {0: {}, 2: {}}
    step = copies.step(np.zeros(3, int))
    assert step.truncated.tolist() == [False, True, False]
    np.testing.assert_allclose(np.expm1(step.obs[:, 1]), [1, 0, 1], atol=1e-6)
    copies.close()
