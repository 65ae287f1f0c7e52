"""`meta_learning("rl2")`: what it sets, what it leaves, and that such an agent trains, is saved and adapts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import TINY_NET, assert_goes_on_when_restored, running, tiny_config
from toy_family import Guess

from rllib_multienv import EnvSpec, MLPNetConfig, MultiEnvAgent, MultiEnvPPOConfig
from rllib_multienv.config_files import build_config, load_config_file

GUESS = EnvSpec("guess-v0", make=Guess)
INPUTS = ("previous_action", "previous_reward", "previous_done")


def rl2_config(**options: object) -> MultiEnvPPOConfig:
    return tiny_config([GUESS, "CartPole-v1"]).meta_learning("rl2", trial_episodes=3, **options)


def test_rl2_sets_trials_memory_and_inputs_whatever_the_order() -> None:
    config = MultiEnvPPOConfig().meta_learning("rl2", trial_episodes=3).environment(envs=[GUESS, "CartPole-v1"])
    config.validate()
    assert [spec.trial_episodes for spec in config.env_specs] == [3, 3]
    assert config.network_config.memory == "gru" and config.network_config.inputs == INPUTS
    assert config.space_specs["guess-v0"].obs_size == 1 + 4 + 1 + 1
    config.meta_learning("rl2", trial_episodes=4).validate()
    assert [spec.trial_episodes for spec in config.env_specs] == [4, 4]


def test_what_is_set_already_stays() -> None:
    config = rl2_config(envs=["guess-v0"]).rl_module(model_config=MLPNetConfig(memory="s4", inputs=INPUTS[:1]))
    config.environment(envs=[EnvSpec("guess-v0", make=Guess, trial_episodes=5), "CartPole-v1"])
    assert [spec.trial_episodes for spec in config.env_specs] == [5, None]
    assert (config.network_config.memory, config.network_config.inputs) == ("s4", INPUTS[:1])


def test_without_a_method_nothing_is_set() -> None:
    config = tiny_config([GUESS])
    assert config.env_specs[0].trial_episodes is None and config.network_config == TINY_NET


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="trial_episodes=0: must be a whole number of at least 1"):
        MultiEnvPPOConfig().meta_learning("rl2", trial_episodes=0)
    with pytest.raises(ValueError, match="method='rl3': must be 'rl2' or None"):
        MultiEnvPPOConfig().meta_learning("rl3")
    with pytest.raises(ValueError, match="there is no environment 'gess-v0'"):
        rl2_config(envs="gess-v0").validate()


def test_a_file_may_say_it(tmp_path: Path) -> None:
    path = tmp_path / "rl2.yaml"
    path.write_text("environment: {envs: [multienv/GridNavi-v0]}\nmeta_learning: {method: rl2, trial_episodes: 4}\n")
    config = build_config(load_config_file(path))
    assert config.env_specs[0].trial_episodes == 4 and config.network_config.memory == "gru"


@pytest.mark.usefixtures("ray_cluster")
def test_an_agent_trains_beside_others_is_resumed_exactly_and_adapts(tmp_path: Path) -> None:
    config = rl2_config(envs=["guess-v0"])
    assert_goes_on_when_restored(config.copy(), tmp_path)
    agent = MultiEnvAgent.from_checkpoint(tmp_path / "checkpoint")
    found = agent.adapt(GUESS, num_tasks=4, episodes=3, explore=True)
    with running(config) as algo:
        algo.train()
        expected = algo.adapt(num_tasks=4, episodes=3, explore=True)["guess-v0"]
    np.testing.assert_array_equal(found.returns, expected.returns)
