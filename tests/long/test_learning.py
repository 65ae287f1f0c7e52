"""One agent learns two environments of different action kinds at the same time."""

from __future__ import annotations

from tiny_runs import running, tiny_config

from rllib_multienv import AgnosticNetConfig

# Random actions give about 22 and 6.
GOALS = {"CartPole-v1": 150.0, "InvertedPendulum-v4": 100.0}


def test_one_agent_learns_both(ray_cluster: None) -> None:
    config = (
        tiny_config(list(GOALS), actor_lr=5e-4, critic_lr=5e-4, num_epochs=10, num_minibatches=8)
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config=AgnosticNetConfig(d_model=32))
    )
    with running(config) as algo:
        returns = {}
        for _ in range(35):
            returns = algo.train()["env_runners"]["module_episode_return_mean"]
            if all(returns.get(env_id, 0.0) >= goal for env_id, goal in GOALS.items()):
                break
        assert {env_id: returns[env_id] for env_id in GOALS if returns[env_id] < GOALS[env_id]} == {}
