"""One agent learns from images, a Dict, a MultiDiscrete space and a vector at the same time."""

from __future__ import annotations

from tiny_runs import running, tiny_config

from rllib_multienv import AgnosticNetConfig, EnvSpec

ENVS = [
    EnvSpec("catch", make="images_and_vectors:Catch"),
    EnvSpec("corners", make="toy_envs:Corners"),
    EnvSpec("copying", make="toy_envs:Copying"),
    "CartPole-v1",
]
# Random actions give about -0.8, -31, 2.5 and 22; the best are 1, -4, 10 and 500.
GOALS = {"catch": 0.0, "corners": -8.0, "copying": 7.0, "CartPole-v1": 150.0}


def test_one_agent_learns_all(ray_cluster: None) -> None:
    config = (
        tiny_config(ENVS, actor_lr=5e-4, critic_lr=5e-4, num_epochs=4, num_minibatches=4)
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config=AgnosticNetConfig(d_model=32))
    )
    with running(config) as algo:
        returns: dict[str, float] = {}
        for _ in range(60):
            returns = algo.train()["env_runners"]["module_episode_return_mean"]
            if all(returns.get(env_id, -100.0) >= goal for env_id, goal in GOALS.items()):
                break
        assert {env_id: returns[env_id] for env_id in GOALS if returns[env_id] < GOALS[env_id]} == {}
