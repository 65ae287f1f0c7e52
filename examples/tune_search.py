"""Searches for learning rates and a network with Ray Tune, as with any other RLlib algorithm.

Run it with::

    python examples/tune_search.py [SAMPLES [ITERATIONS]]

Tune draws settings (4 samples by default), trains each (10 iterations by default) and compares the mean of the two
environments' returns, each scaled to about 0 to 1. Trials run side by side, one per CPU; on two cores the search takes
about three minutes. The best settings are printed at the end. ``tune_configs/search.yaml`` is a similar search as a
file, with early stopping.
"""

import sys

from ray import tune

from rllib_multienv import MultiEnvPPOConfig

samples = int(sys.argv[1]) if len(sys.argv) > 1 else 4
iterations = int(sys.argv[2]) if len(sys.argv) > 2 else 10

RANGES = {"CartPole-v1": (20.0, 500.0), "InvertedPendulum-v4": (5.0, 1000.0)}


def score(result: dict) -> float:
    """Mean over environments of where the return lies in its range."""
    returns = result["env_runners"]["module_episode_return_mean"]
    return sum((returns[env_id] - low) / (high - low) for env_id, (low, high) in RANGES.items()) / len(RANGES)


config = (
    MultiEnvPPOConfig()
    .environment(envs=list(RANGES))
    .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
    .rl_module(model_config={"d_model": tune.choice([16, 32])})
    .training(actor_lr=tune.loguniform(1e-4, 2e-3), critic_lr=tune.loguniform(1e-4, 2e-3))
    .debugging(seed=0)
)
tuner = tune.Tuner(
    "MultiEnvPPO",
    param_space=config,
    tune_config=tune.TuneConfig(num_samples=samples),
    run_config=tune.RunConfig(stop={"training_iteration": iterations}, verbose=0),
)
results = tuner.fit()
if results.errors:
    sys.exit(f"{len(results.errors)} of {samples} trials failed: {results.errors[0]}")
for result in sorted(results, key=lambda result: -score(result.metrics)):
    settings = result.config
    print(
        f"score {score(result.metrics):.3f}: actor_lr {settings['actor_lr']:.2e}, "
        f"critic_lr {settings['critic_lr']:.2e}, d_model {settings['_model_config']['d_model']}"
    )
