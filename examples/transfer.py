"""Trains on two environments, carries the agent over to one that it has never seen, and compares with a new agent.

Run it with::

    python examples/transfer.py [ITERATIONS]

First one agent learns CartPole-v1 and InvertedPendulum-v4 (20 iterations unless told, about two seconds each on two CPU
cores). Then InvertedDoublePendulum-v4, of other observations, is learned three times: beginning with that agent,
beginning with it but with decoders that begin anew, and from scratch. No layer is added: the network has no parameter
that belongs to an environment. One line per iteration shows the three returns.

With this seed the whole agent stays far *behind* one from scratch (119 against 875 after 20 iterations): its decoders
are sure of themselves where they know nothing. With fresh decoders on the carried-over encoders it is ahead (1193). One
seed proves nothing; with three, ``tune_configs/experiments/mini_mix.yaml`` finds fresh decoders equal to scratch.
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
whole, _ = train(config(new).initialize_from(path))
encoders, _ = train(config(new).initialize_from(path, reset=["decoders"]))
scratch, _ = train(config(new))
print("iteration  whole agent  fresh decoders  from scratch")
for iteration, row in enumerate(zip(whole, encoders, scratch, strict=True), 1):
    print(f"{iteration:9}  {row[0][new]:11.1f}  {row[1][new]:14.1f}  {row[2][new]:12.1f}")
