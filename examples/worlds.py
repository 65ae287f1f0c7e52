"""One environment answers what another asks: a policy that sees both at once, and one that sees each alone.

Run it with::

    python examples/worlds.py [ITERATIONS]

`Oracle` shows one of five numbers, `Guess` asks for it. They are a world: stepped together, with the same number. After
15 iterations (some seconds) the policy that sees both is always right; the one that sees each alone is right in one of
five.
"""

from __future__ import annotations

import sys

from rllib_multienv import EnvSpec, MultiEnvPPOConfig, SpecificNetConfig, WorldSpec

ONCE = {"horizon": 1}  # an episode is one question
QUIZ = WorldSpec(
    [
        EnvSpec("oracle", make="multienv/Oracle-v0", kwargs=ONCE),
        EnvSpec("guess", make="multienv/Guess-v0", kwargs=ONCE),
    ],
    share_task=True,
)


def success(*, world_attention: bool, iterations: int) -> float:
    """Share of right answers after so many iterations."""
    config = (
        MultiEnvPPOConfig()
        .environment(worlds={"quiz": QUIZ})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=16)
        .rl_module(model_config=SpecificNetConfig(width=16, world_attention=world_attention))
        .training(lr=1e-2, num_epochs=8, num_minibatches=4, normalize_obs=False)
        .evaluation(evaluation_duration=200)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    try:
        for _ in range(iterations):
            algo.train()
        return float(algo.evaluate()["env_runners"]["module_episode_return_mean"]["guess"])
    finally:
        algo.stop()


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for seen in (True, False):
        print(f"world_attention={seen}: {success(world_attention=seen, iterations=iterations):.2f} right")
