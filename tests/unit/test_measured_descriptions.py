"""Descriptions of components that are measured in a random rollout, into spaces, networks and checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from untrained_agent import save_untrained

from rllib_multienv import AgnosticNetConfig, EnvSpec, GeneratedNetConfig, MultiEnvAgent
from rllib_multienv.envs import probe_spaces, with_measurements
from rllib_multienv.envs.measure import describe_rollout
from rllib_multienv.nets import NetConfig
from rllib_multienv.nets.context import measured_codes
from rllib_multienv.spec import SpaceSpec

ORDER = [2, 0, 1]
BOTH = pytest.mark.parametrize("network", [GeneratedNetConfig, AgnosticNetConfig])


class Reordered(gym.ObservationWrapper):
    """Pendulum with its observation's components in another order."""

    def __init__(self) -> None:
        super().__init__(gym.make("Pendulum-v1"))

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[ORDER]


def measured(spec: EnvSpec) -> SpaceSpec:
    return with_measurements(spec, probe_spaces(spec))


def test_measurements_are_the_same_again_under_any_id_and_in_json() -> None:
    spaces = measured(EnvSpec("CartPole-v1"))
    assert (len(spaces.obs_measured), len(spaces.action_measured)) == (4, 2)
    assert np.isfinite(spaces.obs_measured).all() and np.isfinite(spaces.action_measured).all()
    other = measured(EnvSpec("another", make="CartPole-v1"))
    assert (other.obs_measured, other.action_measured) == (spaces.obs_measured, spaces.action_measured)
    assert SpaceSpec.from_dict(json.loads(json.dumps(spaces.to_dict()))) == spaces
    assert "obs_measured" not in probe_spaces(EnvSpec("CartPole-v1")).to_dict()


def test_the_order_of_components_does_not_matter() -> None:
    plain = measured(EnvSpec("Pendulum-v1", descriptors={}))
    reordered = measured(EnvSpec("reordered", make=Reordered))
    assert [plain.obs_measured[i] for i in ORDER] == list(reordered.obs_measured)


def test_responses_and_correlations_of_a_known_rollout() -> None:
    generator = np.random.default_rng(0)
    obs, actions = generator.normal(size=(4000, 2)), generator.uniform(-1, 1, (4000, 1))
    change = np.concatenate([3 * actions, generator.normal(size=(4000, 1))], axis=1)
    of_observation, of_action = describe_rollout(obs, actions, obs[:, 1], obs + change)
    np.testing.assert_allclose(
        of_observation[:, 1], np.log([3 / np.sqrt(3), 1.0]), atol=0.05
    )  # log deviation of change
    np.testing.assert_allclose(of_observation[:, 4], [0.0, 2.0], atol=0.1)  # correlation with the reward
    np.testing.assert_allclose(of_observation[:, 9], [2.0, 0.0], atol=0.1)  # response to the action
    np.testing.assert_allclose(of_action[0, 5], 1.5 * np.log(np.sqrt(3)), atol=0.05)  # of the component that it moves


def test_codes_of_similar_components_are_similar() -> None:
    codes = measured_codes([[0.0] * 12, [0.1] * 12, [1.5] * 12], 512)
    torch.testing.assert_close(codes.square().mean(1), torch.ones(3, dtype=torch.float64))
    cosines = codes @ codes[0] / 512
    assert cosines[1] > 0.9 and abs(cosines[2]) < 0.15


@BOTH
def test_a_reordered_environment_is_nearly_the_same_to_the_network(network: type[NetConfig]) -> None:
    specs = {"plain": EnvSpec("Pendulum-v1", descriptors={}), "reordered": EnvSpec("reordered", make=Reordered)}
    envs = {env_id: measured(spec) for env_id, spec in specs.items()}
    obs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    differences = []
    for kind in ("id", "measured"):
        torch.manual_seed(0)
        net = network.from_fields({"descriptions": kind}).build(envs)
        with torch.no_grad():
            one, two = net.encode("actor", {"plain": obs}), net.encode("actor", {"reordered": obs[:, ORDER]})
        one, two = one - one.mean(0), two - two.mean(0)
        differences.append(((one - two).norm() / one.norm()).item())
    assert differences[1] < 0.8 * differences[0]


def test_an_environment_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"descriptions='measured': nothing was measured .*'CartPole-v1'"):
        net = GeneratedNetConfig(descriptions="measured").build({"c": probe_spaces(EnvSpec("CartPole-v1"))})
        net.policy({"c": torch.zeros(1, 4)})


@pytest.mark.parametrize("config", [GeneratedNetConfig(width=8), AgnosticNetConfig(d_model=8, d_state=4)])
def test_an_agent_measures_environments_that_it_does_not_know(config: Any, tmp_path: Path) -> None:
    network = replace(config, descriptions="measured")
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["CartPole-v1"], network))
    assert agent.act("Pendulum-v1", np.zeros(3)).shape == (1,)
    assert agent.space_specs["Pendulum-v1"] == measured(EnvSpec("Pendulum-v1"))


class Mixed(gym.Env):
    """Any kind of space at once; only the first bit of the action is rewarded, and the second choice is forbidden."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(
            image=gym.spaces.Box(0, 255, (16, 16, 3), np.uint8),
            place=gym.spaces.Discrete(3),
            action_mask=gym.spaces.Box(0, 1, (5,), np.int8),
        )
        self.action_space = gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.MultiBinary(2)])

    def _obs(self) -> dict[str, Any]:
        mask = np.array([1, 0, 1, 1, 1], np.int8)
        return {"image": np.zeros((16, 16, 3), np.uint8), "place": int(self.np_random.integers(3)), "action_mask": mask}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        choice, bits = action
        assert choice != 1
        return self._obs(), float(bits[0]), False, False, {}


def test_every_kind_of_space_is_measured() -> None:
    spaces = measured(EnvSpec("mixed", make=Mixed))
    assert (len(spaces.obs_measured), len(spaces.action_measured)) == (3, 5)
    with_reward = np.array(spaces.action_measured)[:, 3] / (1.5 * 5)  # correlations of two choices, a bit and another
    np.testing.assert_allclose(with_reward, [0, 0, 0, 1, 0], atol=0.05)
