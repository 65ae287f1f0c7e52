"""Random scores: measured once, then read from the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from rllib_multienv import EnvSpec
from rllib_multienv.evaluation.random_scores import random_score


class Chooser(gym.Env[Any, Any]):
    """Each step pays its action, 0 or 1; episodes end after `length` steps."""

    steps = 0

    def __init__(self, length: int = 4) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (1,))
        self.action_space = gym.spaces.Discrete(2)
        self._length = length
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self.observation_space.low, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        type(self).steps += 1
        return self.observation_space.low, float(action), self._step >= self._length, False, {}


def test_actions_are_uniform() -> None:
    score = random_score(EnvSpec("chooser", make=Chooser), episodes=1000)
    # Four coins per episode: mean 2, standard deviation 1.
    assert score.episodes == 1000
    assert score.mean == pytest.approx(2.0, abs=0.15)
    assert score.std == pytest.approx(1.0, abs=0.1)
    assert (score.env_id, score.env_name) == ("chooser", "Chooser")


def test_actions_keep_to_a_mask() -> None:
    masked = EnvSpec("masked", make="toy_envs:Anything", kwargs={"mask": True})  # which refuses forbidden ones
    assert random_score(masked, episodes=5).episodes == 5


def test_a_seed_gives_the_same_score() -> None:
    first = [random_score(EnvSpec("chooser", make=Chooser), episodes=3, seed=seed).mean for seed in (5, 5, 6, 7, 8)]
    assert first[0] == first[1]
    assert len(set(first)) > 1


def test_the_second_time_it_comes_from_the_cache(tmp_path: Path) -> None:
    spec = EnvSpec("CartPole-v1")
    score = random_score(spec, episodes=5, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    data = json.loads(file.read_text())
    assert data["measured"]["mean"] == score.mean
    data["measured"]["mean"] = 12345.0
    file.write_text(json.dumps(data))
    assert random_score(spec, episodes=5, cache_dir=tmp_path).mean == 12345.0
    # Other settings and environments are measured for themselves.
    assert random_score(spec, episodes=6, cache_dir=tmp_path).mean < 1000
    assert random_score(EnvSpec("CartPole-v1", max_episode_steps=3), episodes=5, cache_dir=tmp_path).mean == 3.0
    assert len(list(tmp_path.iterdir())) == 3


def test_another_version_of_a_package_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = random_score(EnvSpec("CartPole-v1"), episodes=5, cache_dir=tmp_path)
    monkeypatch.setattr("rllib_multienv.evaluation.random_scores.version", lambda package: "0.1")
    assert random_score(EnvSpec("CartPole-v1"), episodes=5, cache_dir=tmp_path) == first
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_cache_is_measured_again(tmp_path: Path) -> None:
    spec = EnvSpec("CartPole-v1")
    score = random_score(spec, episodes=5, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert random_score(spec, episodes=5, cache_dir=tmp_path) == score
    assert json.loads(file.read_text())["measured"]["mean"] == score.mean


def test_the_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIENV_CACHE", str(tmp_path))
    random_score(EnvSpec("CartPole-v1"), episodes=1)
    assert len(list((tmp_path / "random_scores").iterdir())) == 1


def test_environments_whose_code_may_change_are_not_cached(tmp_path: Path) -> None:
    random_score(EnvSpec("chooser", make=Chooser), episodes=1, cache_dir=tmp_path)
    random_score(
        EnvSpec("by-name", make="gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=5),
        episodes=1,
        cache_dir=tmp_path,
    )
    assert not list(tmp_path.iterdir())


def test_the_number_of_steps_is_limited() -> None:
    Chooser.steps = 0
    score = random_score(EnvSpec("chooser", make=Chooser, kwargs={"length": 40}), episodes=100, max_steps=100)
    assert (score.episodes, Chooser.steps) == (2, 100)


def test_an_endless_first_episode_counts_as_far_as_it_went() -> None:
    score = random_score(EnvSpec("chooser", make=Chooser, kwargs={"length": 10**9}), episodes=5, max_steps=50)
    assert score.episodes == 1
    assert 10 < score.mean < 40


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        random_score(EnvSpec("CartPole-v1"), episodes=0)
