"""Wrong configurations are errors that say what is wrong and what would be right, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import AgnosticNetConfig, EnvSpec, MLPNetConfig, MultiEnvPPO, MultiEnvPPOConfig


class Lists(gym.Env):
    """Observations that are not supported."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(items=gym.spaces.Sequence(gym.spaces.Discrete(3)))
        self.action_space = gym.spaces.Discrete(2)


def overrides(settings: dict[str, Any]) -> Callable[[MultiEnvPPOConfig], Any]:
    return lambda config: config.multi_agent(algorithm_config_overrides_per_module=settings)


@pytest.mark.parametrize(
    "envs, message",
    [
        (["CartPole-v1", "CartPol-v1"], r"CartPol-v1.*CartPole-v1"),
        (["CartPole-v1", "CartPole-v1"], r"[Tt]wo environments have the id 'CartPole-v1'"),
        ([{"id": "CartPole-v1", "num_env": 3}], r"unknown key 'num_env'.*num_envs"),
    ],
)
def test_environments(envs: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiEnvPPOConfig().environment(envs=envs)


def test_rllibs_single_environment() -> None:
    with pytest.raises(ValueError, match=r"Write environment\(envs=\["):
        MultiEnvPPOConfig().environment(env="CartPole-v1")


def test_no_environment_at_all() -> None:
    for config in (MultiEnvPPOConfig(), MultiEnvPPOConfig().environment(envs=[])):
        with pytest.raises(ValueError, match="No environment was given"):
            config.validate()


@pytest.mark.parametrize(
    "change, message",
    [
        (overrides({"CartPole-v0": {"gamma": 0.9}}), r"there is no environment 'CartPole-v0'.*CartPole-v1"),
        (overrides({"CartPole-v1": {"gama": 0.9}}), r"'gama' cannot differ.*gamma"),
        (overrides({"CartPole-v1": {"actor_lr": 0.9}}), r"'actor_lr' cannot differ"),
        (lambda c: c.training(env_loss_weights={"Pendulum-v1": 1.0}), r"env_loss_weights.*'Pendulum-v1'"),
        (lambda c: c.training(num_minibatches=33), r"'CartPole-v1' gives 32 steps.*num_minibatches=33"),
        (
            overrides({"InvertedPendulum-v4": {"kl_target": 0.0}}),
            r"'InvertedPendulum-v4'\]: kl_target=0.0: must be .*above 0",
        ),
        (lambda c: c.training(actor_lr=[[0, 1e-3], [100, 0.0]], lr_anneal_steps=100), r"actor_lr.*lr_anneal_steps"),
        (lambda c: c.rl_module(model_config=MLPNetConfig()), "exactly one environment"),
    ],
)
def test_settings(change: Callable[[MultiEnvPPOConfig], Any], message: str) -> None:
    config = tiny_config()
    config.validate()
    change(config)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_network_configurations() -> None:
    with pytest.raises(ValueError, match=r"d_modle.*d_model"):
        MultiEnvPPOConfig().rl_module(model_config={"d_modle": 8})
    with pytest.raises(ValueError, match=r"'agnostik'.*agnostic"):
        MultiEnvPPOConfig().rl_module(model_config={"type": "agnostik"})
    with pytest.raises(TypeError, match="AgnosticNetConfig"):
        MultiEnvPPOConfig().rl_module(model_config=64)


def test_unsupported_spaces_before_any_worker_starts() -> None:
    config = tiny_config(["CartPole-v1", EnvSpec("lists", make=Lists)]).env_runners(num_env_runners=2)
    with pytest.raises(ValueError, match=r"'lists' has an unsupported .* at 'items': Sequence") as caught:
        config.build_algo()
    frames = [str(entry.path) for entry in caught.traceback]
    assert not any("env_runner_group" in frame for frame in frames)


def test_restoring_what_does_not_fit_changes_nothing(ray_cluster: None, tmp_path: Path) -> None:
    envs = ("CartPole-v1", "InvertedPendulum-v4")
    with running(tiny_config(envs).rl_module(model_config=AgnosticNetConfig(d_model=16, d_state=4))) as algo:
        algo.save_to_path(tmp_path / "wider")
    with running(tiny_config(("CartPole-v1", "Acrobot-v1"))) as algo:
        algo.save_to_path(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with running(tiny_config(envs)) as algo, running(tiny_config(envs)) as untouched:
        algo.train()
        untouched.train()
        before = weights(algo)
        for folder, error, message in (
            ("nowhere", FileNotFoundError, "nowhere"),
            ("empty", ValueError, "is not a checkpoint of rllib_multienv"),
            ("wider", ValueError, "d_model=16 there, 8"),
            ("elsewhere", ValueError, r"other environments.*'Acrobot-v1'.*initialize_from"),
        ):
            with pytest.raises(error, match=message):
                algo.restore_from_path(tmp_path / folder)
        assert_same(weights(algo), before)
        assert_same(algo.train()["learners"]["CartPole-v1"], untouched.train()["learners"]["CartPole-v1"])
        assert_same(weights(algo), weights(untouched))


def test_building_from_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MultiEnvPPO.from_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is not a checkpoint of rllib_multienv"):
        MultiEnvPPO.from_checkpoint(str(tmp_path))
