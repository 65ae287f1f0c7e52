"""Trains on two environments, carries the agent over to one that it has never seen, and compares with a new agent.

Run it with::

    python examples/transfer.py [ITERATIONS]

First one agent learns CartPole-v1 and InvertedPendulum-v4 (20 iterations unless told, about two seconds each on two
CPU cores). Then InvertedDoublePendulum-v4, of other observations, is learned twice: beginning with that agent, and
from scratch. No layer is added: the network has no parameter that belongs to an environment. One line per iteration
shows both returns. The agent that has learned to balance before is ahead in the first iterations; how far depends
on the seed, and three seeds of more than one transfer are the least to conclude anything from
(``tune_configs/experiments/mini_mix.yaml`` does that).
"""

import sys

from rllib_multienv import AgnosticNetConfig, MultiEnvPPOConfig

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20


def config(*envs: str) -> MultiEnvPPOConfig:
    """The same settings for any environments."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config=AgnosticNetConfig(d_model=32))
        .training(actor_lr=5e-4, critic_lr=5e-4, num_epochs=10, num_minibatches=8)
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=0)
    )


def train(config: MultiEnvPPOConfig) -> tuple[list[dict[str, float]], str]:
    """The mean returns after every iteration, and the checkpoint."""
    algo = config.build_algo()
    returns = [dict(algo.train()["env_runners"]["module_episode_return_mean"]) for _ in range(iterations)]
    path = algo.save_to_path()
    algo.stop()
    return returns, path


pretrained, path = train(config("CartPole-v1", "InvertedPendulum-v4"))
print("pretrained", {env_id: round(float(value), 1) for env_id, value in pretrained[-1].items()}, flush=True)

new = "InvertedDoublePendulum-v4"
transferred, _ = train(config(new).initialize_from(path))
scratch, _ = train(config(new))
print("iteration  transferred  from scratch")
for iteration, (carried, fresh) in enumerate(zip(transferred, scratch, strict=True), 1):
    print(f"{iteration:9}  {carried[new]:11.1f}  {fresh[new]:12.1f}")
