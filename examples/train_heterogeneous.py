"""Trains one agent on four unlike environments, saves it, and lets it act without Ray.

Run it with::

    python examples/train_heterogeneous.py [ITERATIONS]

It prints the mean return in each environment after each iteration (30 iterations by default, a few seconds each on two
CPU cores). CartPole-v1 rises from about 20 towards 500, InvertedPendulum-v4 from about 10 towards 1000, Acrobot-v1 from
-500 towards -90, Reacher-v4 from -45 towards -5; 30 iterations are not enough to get there. At the end are the
checkpoint's path and the agent's mean return over a few episodes of each environment.
"""

import sys

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvAgent, MultiEnvPPOConfig

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 30

config = (
    MultiEnvPPOConfig()
    .environment(envs=["CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", EnvSpec("Reacher-v4", num_envs=16)])
    .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
    .rl_module(model_config=AgnosticNetConfig(d_model=32))
    .training(actor_lr=5e-4, critic_lr=5e-4, num_epochs=10, num_minibatches=8)
    .debugging(seed=0)
)
algo = config.build_algo()
for iteration in range(iterations):
    returns = algo.train()["env_runners"]["module_episode_return_mean"]
    print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
path = algo.save_to_path()
algo.stop()

agent = MultiEnvAgent.from_checkpoint(path)
print("saved to", path)
for env_id in agent.env_specs:
    episodes = agent.evaluate(env_id, episodes=5)
    print(f"{env_id}: {sum(total for total, _ in episodes) / len(episodes):.1f}")
