"""An agent that learns to adapt: RL² in grids with a hidden goal.

Run it with::

    python examples/meta_learning.py [ITERATIONS]

After 150 iterations (about two minutes on an idle core) the agent explores in the first episode of a new grid, and goes
straight to the goal in the next ones: the last lines show the return of each episode, beside an oracle's and a random
policy's, and ``adaptation.png`` draws them. `multienv adapt` prints the same table with more tasks.
"""

from __future__ import annotations

import sys

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig
from rllib_multienv.evaluation.adaptation import plot_adaptation

EPISODES = 4  # of a trial


def main(iterations: int = 150) -> None:
    """Train, save, and let the agent adapt to goals."""
    grid = EnvSpec("grid", make="multienv/GridNavi-v0", kwargs={"held_out": False})
    config = (
        MultiEnvPPOConfig()
        .environment(envs=[grid])
        .meta_learning("rl2", trial_episodes=EPISODES)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=64, rollout_fragment_length=60)
        .rl_module(model_config=GeneratedNetConfig(max_seq_len=60))
        .training(lr=1e-3, gamma=0.95, entropy_coeff=0.01, num_epochs=4, num_minibatches=4, vf_clip_param=None)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(1, iterations + 1):
        returns = algo.train()["env_runners"]["trial_episode_return_mean"]["grid"]
        if iteration % 10 == 0 or iteration == iterations:
            print(iteration, *(f"{returns[str(k)]:.2f}" for k in range(1, EPISODES + 1)))
    path = algo.save_to_path("meta_learning_checkpoint")
    algo.stop()

    # Without Ray: every task is new to the agent, which adapts by its memory alone.
    result = MultiEnvAgent.from_checkpoint(path).adapt("grid", num_tasks=84, episodes=EPISODES)
    for number, mean in enumerate(result.means, 1):
        print(f"episode {number}: {mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]")
    print(f"oracle {result.oracle.mean():.2f}, random actions {result.random.mean():.2f}")
    print("figure in", plot_adaptation([result], "adaptation.png"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
