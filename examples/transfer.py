"""Transfer of an agent from two environments to a third, beside training from scratch.

Run it with::

    python examples/transfer.py [ITERATIONS]

One agent learns CartPole-v1 and InvertedPendulum-v4 (20 iterations by default, about two seconds each on two cores).
Then InvertedDoublePendulum-v4, with other observations, is learned three times: starting from that agent, starting from
its encoders with fresh decoders, and from scratch. No layer is added, because no parameter of the network belongs to an
environment. Each iteration prints the three returns.

One seed proves nothing; with three, ``tune_configs/experiments/mini_mix.yaml`` finds fresh decoders equal to scratch.
Related bodies are in ``tune_configs/experiments/transfer.yaml`` (docs/results/transfer.md).
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
