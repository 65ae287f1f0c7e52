"""One agent for images, text, masks and mixed actions beside vectors; its encoders outlive the environments."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from tiny_runs import assert_goes_on_when_restored, running, tiny_config, weights

from rllib_multienv import (
    EnvSpec,
    GeneratedNetConfig,
    ImageEncoderConfig,
    MultiEnvAgent,
    MultiEnvPPOConfig,
    TextEncoderConfig,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")
SMALL: dict[str, Any] = {
    "image_encoder": ImageEncoderConfig(channels=(4, 8), blocks=(0, 1), positions=2, width=8),
    "text_encoder": TextEncoderConfig(channels=4, width=8),
}


class Noise(gym.Env):
    """Random observations of any space; an action mask, where there is one, allows the first choice alone."""

    def __init__(self, observations: gym.Space, actions: gym.Space) -> None:
        self.observation_space, self.action_space = deepcopy(observations), actions  # copies draw on their own

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        obs = self.observation_space.sample()
        if isinstance(obs, dict) and "action_mask" in obs:
            obs["action_mask"][:] = 0
            obs["action_mask"][0] = 1
        return obs

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        if isinstance(self.observation_space, gym.spaces.Dict) and "action_mask" in self.observation_space.spaces:
            assert action == 0
        self._steps += 1
        return self._observe(), 1.0, False, self._steps == 10, {}


def image(height: int = 20, width: int = 16, channels: int = 3) -> gym.Space:
    return gym.spaces.Box(0, 255, (height, width, channels), np.uint8)


def noise(env_id: str, observations: gym.Space, actions: gym.Space) -> EnvSpec:
    return EnvSpec(env_id, make=Noise, kwargs={"observations": observations, "actions": actions})


PICTURES = noise("pictures", image(), gym.spaces.Discrete(3))
MASKED = noise(
    "masked",
    gym.spaces.Dict(
        {
            "camera": image(17, 18, 1),
            "speed": gym.spaces.Box(-1.0, 1.0, (2,)),
            "mission": gym.spaces.Text(8),
            "action_mask": gym.spaces.MultiBinary(4),
        }
    ),
    gym.spaces.Discrete(4),
)
MIXED = noise(
    "mixed",
    gym.spaces.Box(-1.0, 1.0, (3,)),
    gym.spaces.Dict(
        {
            "gear": gym.spaces.Discrete(3),
            "lights": gym.spaces.MultiBinary(2),
            "wheel": gym.spaces.Box(-2.0, 2.0, (1,)),
        }
    ),
)


def all_spaces() -> MultiEnvPPOConfig:
    config = tiny_config([PICTURES, MASKED, MIXED, "CartPole-v1"])
    return config.rl_module(model_config=GeneratedNetConfig(width=8, generator_width=8, code_size=16, **SMALL))


def test_a_restored_run_has_the_next_update(tmp_path: Path) -> None:
    assert_goes_on_when_restored(all_spaces(), tmp_path)


def test_one_agent_for_all_spaces_whose_encoders_stay_when_their_environments_go(tmp_path: Path) -> None:
    with running(all_spaces()) as algo:
        result = algo.train()
        for env_id in ("pictures", "masked", "mixed", "CartPole-v1"):
            found = {name: float(result["learners"][env_id][name]) for name in ("policy_loss", "entropy", "vf_loss")}
            assert np.isfinite(list(found.values())).all()
        assert result["learners"]["masked"]["entropy"] == pytest.approx(0.0, abs=1e-5)  # one choice is allowed
        algo.remove_env("pictures")
        algo.remove_env("masked")
        algo.train()
        path = algo.save_to_path(tmp_path / "checkpoint")
        saved = weights(algo)
    assert any("encoders.image" in name for name in saved)
    agent = MultiEnvAgent.from_checkpoint(path)
    larger = noise("larger", image(40, 30, 1), gym.spaces.MultiDiscrete([2, 5]))
    action = agent.act(larger, image(40, 30, 1).sample())
    assert gym.spaces.MultiDiscrete([2, 5]).contains(action)


def test_an_image_environment_cannot_join_an_agent_without_encoder() -> None:
    config = tiny_config(["CartPole-v1"])
    config.rl_module(model_config=GeneratedNetConfig(width=8, generator_width=8, code_size=16))
    with running(config) as algo:
        with pytest.raises(ValueError, match=r"'pictures' has images .* image_encoder: true in its model_config"):
            algo.add_env(PICTURES)
        assert list(algo.config.space_specs) == ["CartPole-v1"]
        algo.train()
