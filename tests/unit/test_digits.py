"""Digits that may be searched for before they are named."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest

import rllib_multienv.tasks  # noqa: F401 (registers)

pytest.importorskip("sklearn")


def test_a_search_shows_another_image_most_often_of_the_same_digit() -> None:
    question = gym.make_vec("multienv/DigitQuestion-v0", 200, noise=0.0)
    search = gym.make_vec("multienv/DigitSearch-v0", 200)
    for split, bounds in (("train", (597, 1797)), ("test", (0, 597))):
        tasks = question.sample_tasks(200, split, np.random.default_rng(0))  # type: ignore[attr-defined]
        assert tasks.min() >= bounds[0] and tasks.max() < bounds[1]
        for env in (question, search):
            env.set_tasks(tasks)  # type: ignore[attr-defined]
        images, nothing = question.reset()[0], search.reset()[0]
        assert images.shape == (200, 64) and images.max() == 1.0 and not nothing.any()
        looks = np.arange(200) % 2
        found = search.step(looks)[0]
        assert not found[looks == 0].any() and (found[looks == 1, 64:].sum(1) == 1).all()
        assert (np.abs(found[:, :64] - images).max(1) > 0).all()
        rewards = question.step(np.zeros((200, 2), int))[1]
        np.testing.assert_array_equal(rewards, np.full(200, -0.1))
        _, rewards, terminated, *_ = question.step(np.stack([np.ones(200, int), found[:, 64:].argmax(1)], axis=1))
        assert rewards[looks == 1].mean() > 0.95 and terminated.all()


def test_noise_is_drawn_for_each_episode() -> None:
    question = gym.make_vec("multienv/DigitQuestion-v0", 2, noise=0.5, task=[3.0])
    first, waited = question.reset(seed=0)[0], question.step(np.zeros((2, 2), int))[0]
    np.testing.assert_array_equal(first, waited)
    noise = first - question.step(np.zeros((2, 2), int))[0]
    assert 0.5 < noise.std() < 0.9  # of the difference of two


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from rllib_multienv.tasks import digits

    digits._digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'rllib-multienv\[datasets\]'"):
        digits.DigitQuestion()
