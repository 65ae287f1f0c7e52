"""Atari through ale-py's vector environment, and the same environment as a single copy."""

from __future__ import annotations

import importlib.util

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv.envs import atari
from rllib_multienv.envs.atari_vector import AtariCopies
from rllib_multienv.envs.make import episode_limit, make_env
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.envs.vector import resolve_backend
from rllib_multienv.gym_ids import Family
from rllib_multienv.spec import EnvSpec, resolve_env_specs

needs_ale = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="needs the extra 'atari'")
SEEDS = [7, 11]


@needs_ale
@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_a_single_copy_sees_what_a_copy_of_the_vector_environment_sees(game: str) -> None:
    spec = EnvSpec(f"ALE/{game}-v5", max_episode_steps=30)
    copies, single = AtariCopies(spec, 2), make_env(spec)
    first, _ = copies.reset_copies(SEEDS)
    obs, _ = single.reset(seed=SEEDS[1])
    np.testing.assert_array_equal(first[1], obs)
    assert obs.shape == (4, 84, 84) and obs.dtype == np.uint8
    rng, ends = np.random.default_rng(0), 0
    for _ in range(70):
        actions = rng.integers(copies.single_action_space.n, size=2)
        step = copies.step_copies(actions)
        obs, reward, terminated, truncated, info = single.step(actions[1])
        assert (step.rewards[1], step.terminated[1], step.truncated[1]) == (reward, terminated, truncated)
        np.testing.assert_array_equal(step.final_obs.get(1, step.obs[1]), obs)
        if terminated or truncated:
            ends += 1
            np.testing.assert_array_equal(step.obs[1], single.reset()[0])
        else:
            assert step.infos[1]["lives"] == info["lives"]
    assert ends == 2
    copies.close()
    single.close()


@needs_ale
def test_seeds_decide_what_happens() -> None:
    runs = []
    for seeds in (SEEDS, SEEDS, [1, 2]):
        copies = AtariCopies(EnvSpec("ALE/Breakout-v5"), 2)
        copies.reset_copies(seeds)
        runs.append([copies.step_copies(np.array([t % 4, 2])).obs for t in range(20)])
        copies.close()
    same, other = (np.array_equal(runs[0], run) for run in runs[1:])
    assert same and not other


@needs_ale
def test_learners_may_end_at_a_lost_life_while_the_game_goes_on() -> None:
    spec = EnvSpec("ALE/Breakout-v5", kwargs={"life_loss_info": True, "reward_clipping": True})
    copies = AtariCopies(spec, 1)
    copies.reset_copies([0])
    lost = 0
    for _ in range(400):
        step = copies.step_copies(np.array([1]))  # fires, and never moves
        assert step.lost_life is not None
        lost += int(step.lost_life[0])
        if step.terminated[0]:
            break
    assert lost == 4 and step.terminated[0] and not step.lost_life[0]  # the fifth life ends the game
    assert atari.reward_clip(spec) == 1.0
    copies.close()


@needs_ale
def test_scores_are_not_clipped() -> None:
    spec = EnvSpec("ALE/Assault-v5", kwargs={"reward_clipping": True})
    copies = AtariCopies(spec, 4)
    copies.reset_copies(range(4))
    rng = np.random.default_rng(0)
    rewards = [copies.step_copies(rng.integers(7, size=4)).rewards for _ in range(150)]
    assert np.max(rewards) == 21.0
    copies.close()


@needs_ale
def test_the_screen_is_rendered_in_colour() -> None:
    plain, shown = make_env(EnvSpec("ALE/Pong-v5")), make_env(EnvSpec("ALE/Pong-v5"), render_mode="rgb_array")
    obs, _ = shown.reset(seed=3)
    np.testing.assert_array_equal(obs, plain.reset(seed=3)[0])
    for action in (2, 3, 2, 2):
        np.testing.assert_array_equal(shown.step(action)[0], plain.step(action)[0])
    picture = np.asarray(shown.render())
    assert picture.shape == (210, 160, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3  # Pong's brown, green and white
    for env in (plain, shown):
        env.close()


@needs_ale
def test_arguments_are_gymnasiums() -> None:
    small = make_env(EnvSpec("ALE/Pong-v5", kwargs={"img_height": 42, "img_width": 40, "stack_num": 2}))
    assert small.observation_space.shape == (2, 42, 40)
    ram = EnvSpec("ALE/Pong-v5", kwargs={"obs_type": "ram"})
    assert resolve_backend(ram) == "sync" and probe_spaces(ram).obs_size == 128
    assert episode_limit(EnvSpec("ALE/Pong-v5")) == 27_000
    assert episode_limit(EnvSpec("ALE/Pong-v5", max_episode_steps=100)) == 100


@needs_ale
def test_an_unknown_argument_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'ALE-Pong-v5'.* no option 'stack_size'. Did you mean 'stack_num'\?"):
        make_env(EnvSpec("ALE/Pong-v5", kwargs={"stack_size": 2}))
    with pytest.raises(ValueError, match=r"no option 'difficulty'.*'obs_type': 'rgb'"):
        make_env(EnvSpec("ALE/Pong-v5", kwargs={"difficulty": 1}))


@needs_ale
def test_an_action_outside_the_space_is_an_error() -> None:
    env = make_env(EnvSpec("ALE/Pong-v5"), seed=0)
    with pytest.raises(ValueError, match=r"action 6 is outside its space Discrete\(6\)"):
        env.step(6)
    env.close()


def test_the_backend_is_ale_pys_for_atari_ids_only() -> None:
    assert resolve_backend(EnvSpec("ALE/Pong-v5")) == "atari_vector"
    assert resolve_backend(EnvSpec("ALE/Pong-v5", backend="sync")) == "sync"
    with pytest.raises(ValueError, match=r"'CartPole-v1': backend='atari_vector' is for Gymnasium's Atari ids"):
        resolve_backend(EnvSpec("CartPole-v1", backend="atari_vector"))
    with pytest.raises(ValueError, match=r"life_loss_info needs backend='atari_vector', not 'async'"):
        resolve_backend(EnvSpec("ALE/Pong-v5", backend="async", kwargs={"life_loss_info": True}))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Family, "installed", False)
    monkeypatch.setattr(gym, "registry", {})
    with pytest.raises(ValueError, match=r"package 'ale_py', .*pip install 'rllib-multienv\[atari\]'"):
        resolve_env_specs("ALE/Pong-v5")
