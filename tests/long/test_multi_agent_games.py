"""PettingZoo's environments train, and games are won."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_runs import running, tiny_config

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvPPOConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    "module",
    [
        "sisl.pursuit_v5",
        "butterfly.knights_archers_zombies_v11",
        "sisl.multiwalker_v9",
        "butterfly.cooperative_pong_v6",
    ],
)
def test_it_trains_for_three_iterations(module: str) -> None:
    spec = EnvSpec("env", make=f"pettingzoo.{module}", num_envs=1)
    config = tiny_config([spec, "CartPole-v1"]).rl_module(model_config=GeneratedNetConfig(width=16))
    with running(config) as algo:
        for _ in range(3):
            result = algo.train()
    assert np.isfinite(result["learners"]["env"]["policy_loss"])


def test_tic_tac_toe_is_learned_by_self_play() -> None:
    config = (
        MultiEnvPPOConfig()
        .environment(envs=[EnvSpec("game", make="pettingzoo.classic.tictactoe_v3", num_envs=64)])
        .env_runners(num_env_runners=0, rollout_fragment_length=64)
        .rl_module(model_config=GeneratedNetConfig())
        .training(lr=[[0, 1e-3], [250_000, 1e-4]], num_epochs=4, num_minibatches=4, entropy_coeff=0.01)
        .multi_agent(opponents="pool")
        .evaluation(evaluation_duration=100, opponents=["random"], evaluation_config={"explore": False})
        .debugging(seed=0)
    )
    with running(config) as algo:
        for _ in range(90):
            algo.train()
        found: Any = algo.evaluate()["env_runners"]
    kept = {
        seat: found["win_rate"]["game"]["random"][seat] + found["draw_rate"]["game"]["random"][seat]
        for seat in ("player_1", "player_2")
    }
    assert kept["player_1"] >= 0.95 and kept["player_2"] >= 0.85, kept
