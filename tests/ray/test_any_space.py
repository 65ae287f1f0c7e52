"""Environments with any spaces train together, are evaluated, saved and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iql_runs import iql_config, running_iql
from random_spaces import RandomSpaces, random_pairs
from ray.rllib.callbacks.callbacks import RLlibCallback
from tiny_runs import assert_goes_on_when_restored, running, tiny_config, weights
from toy_envs import Anything

from rllib_multienv import EnvSpec, GeneratedNetConfig, ImageEncoderConfig, MultiEnvAgent, MultiEnvPPOConfig
from rllib_multienv.offline.behaviours import Behaviour
from rllib_multienv.offline.formats import d4rl
from rllib_multienv.offline.recording import record_steps
from rllib_multienv.spec import SpaceSpec

SMALL = GeneratedNetConfig(
    width=16,
    generator_width=16,
    code_size=16,
    image_encoder=ImageEncoderConfig(channels=(4, 8), blocks=(0, 0), width=16),
)
MASKED = EnvSpec("masked", make="toy_envs:Anything", kwargs={"mask": True})
ANYTHING, CHOICES = EnvSpec("anything", make="toy_envs:Anything"), EnvSpec("choices", make="toy_envs:Choices")
ENVS = [ANYTHING, MASKED, CHOICES, "CartPole-v1"]


class Looks(RLlibCallback):
    """Checks what the parts of episodes' rows are."""

    def on_episode_end(self, *, episode: Any, env_runner: Any, **kwargs: Any) -> None:
        """The camera's first pixel tells the step."""
        if episode.module_id == "anything":
            spaces: SpaceSpec = env_runner.config.space_specs["anything"]
            parts = spaces.unpack(episode.get_observations())
            steps = len(episode) + 1  # of this fragment
            assert parts["camera"][:, 0, 0, 0].tolist() == list(range(6 - steps, 6))
            assert parts["robot/mode"].shape == (steps, 4)


def config(**training: Any) -> MultiEnvPPOConfig:
    return tiny_config(ENVS, **training).rl_module(model_config=SMALL).callbacks(Looks)


@pytest.fixture(scope="module")
def folder(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("any")
    with running(config()) as algo:
        algo.train()
        before = weights(algo)
        algo.train()
        assert any((before[name] != array).any() for name, array in weights(algo).items())
        algo.save_to_path(path)
    return path


def test_an_agent_acts_on_one_observation_and_on_a_batch(folder: Path) -> None:
    agent, env = MultiEnvAgent.from_checkpoint(folder), Anything(mask=True)
    obs, info = env.reset()
    action = agent.act("masked", obs, action_mask=info["action_mask"])
    assert env.action_space.contains(action) and action["push"] != 0
    batch = agent.act("masked", [obs, obs], action_mask=[info["action_mask"]] * 2)
    assert len(batch) == 2 and batch[0]["push"] == batch[1]["push"] == action["push"]
    with pytest.raises(ValueError, match=r"masked: its infos have an action mask; pass action_mask="):
        agent.act("masked", obs)
    with pytest.raises(ValueError, match="anything: the Dict has no 'note'"):
        agent.act("anything", {key: value for key, value in obs.items() if key != "note"})


def test_evaluation_plays_every_space(folder: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(folder)
    for env_id in ("anything", "masked", "choices"):
        assert [length for _, length in agent.evaluate(env_id, episodes=3, explore=True)] == [5, 5, 5]


def test_an_agent_acts_in_an_environment_that_it_has_not_seen(folder: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(folder)
    longer = EnvSpec("longer", make="toy_envs:Anything", kwargs={"length": 7, "mask": True})
    assert [length for _, length in agent.evaluate(longer, episodes=2)] == [7, 7]


def test_a_run_is_resumed_exactly(ray_cluster: None, tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(), tmp_path)


def test_data_sets_of_any_space_train(ray_cluster: None, tmp_path: Path) -> None:
    files = {}
    for env in (ANYTHING, MASKED, CHOICES):
        raw = record_steps(env, [Behaviour(policy="random")], num_steps=40, seed=0)
        d4rl.write(tmp_path / f"{env.id}.hdf5", raw)
        files[env.id] = str(tmp_path / f"{env.id}.hdf5")
    with running_iql(iql_config(files).rl_module(model_config=SMALL)) as algo:
        algo.train()
        agent = MultiEnvAgent.from_checkpoint(algo.save_to_path(tmp_path / "agent"))
    env = Anything(mask=True)
    obs, info = env.reset()
    action = agent.act("masked", obs, action_mask=info["action_mask"])
    assert env.action_space.contains(action) and action["push"] != 0
    assert env.action_space.contains(agent.act("anything", obs))


def test_one_hundred_random_pairs_of_spaces_train(ray_cluster: None) -> None:
    envs = [
        EnvSpec(f"e{number}", make=RandomSpaces, kwargs={"observation_space": observation, "action_space": action})
        for number, (observation, action) in enumerate(random_pairs(100))
    ]
    small = tiny_config(envs, num_epochs=1, num_minibatches=1).rl_module(model_config=SMALL)
    with running(small.env_runners(num_envs_per_env_runner=1, rollout_fragment_length=6)) as algo:
        before = weights(algo)
        for _ in range(2):
            result = algo.train()
        assert all(np.isfinite(result["learners"][spec.id]["total_loss"]) for spec in envs)
        after = weights(algo)
    assert all(np.isfinite(array).all() for array in after.values())
    assert any((before[name] != array).any() for name, array in after.items())
