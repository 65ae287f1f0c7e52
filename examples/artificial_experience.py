"""One agent on a data set, two control problems and a board game: digits, CartPole, HalfCheetah and connect four.

Run it with (scikit-learn is in the extra ``datasets``)::

    python examples/artificial_experience.py [--iterations 20]

First a few steps of the stream that `AEEnv` makes of the four, without training; then an agent is trained on the same
object. One line per iteration shows the accuracy on digits and the returns, the last line the accuracy on digits that
it has not seen: some 0.9 after 20 iterations of a few seconds each.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

import gymnasium as gym
from pettingzoo.classic import connect_four_v3

from rllib_multienv import AEEnv, DatasetEnv, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig


def look(env: AEEnv, steps: int = 6) -> None:
    """Show a few steps of the stream, from another environment each, with random actions."""
    env.next_env_fn = lambda last_step_data, curr_env, available_envs: random.choice(available_envs)
    step = env.reset()
    for _ in range(steps):
        for name in env.agent_names:
            shown = step[name]
            kind = "X and Y" if env.is_supervised else "observation"
            print(f"{getattr(env.env, 'name', env.env)!s:.40} {name}: {kind}, reward {shown.reward}, done {shown.done}")
        step = env.step({} if env.is_supervised else {name: act(env, name, step) for name in env.agent_names})
    env.next_env_fn = None


def act(env: AEEnv, name: str, step: Any) -> Any:
    """A random action that is allowed."""
    space = env.env.action_space
    if isinstance(space, gym.Space):
        return space.sample()
    mask = step[name].observation["action_mask"]
    return space(name).sample(mask if mask.any() else None)


def main() -> None:
    """Look at the stream, and train on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=20)
    args = parser.parse_args()
    env = AEEnv(
        [
            DatasetEnv("sklearn.datasets:load_digits", epochs=4, batch_size=8),
            gym.make("CartPole-v1"),
            gym.make("HalfCheetah-v4"),
            connect_four_v3.env(),
        ]
    )
    look(env)
    config = (
        MultiEnvPPOConfig()
        .environment(envs=env)
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=64)
        .rl_module(model_config=GeneratedNetConfig())
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(args.iterations):
        result = algo.train()
        returns = result["env_runners"]["module_episode_return_mean"]
        print(
            f"{iteration + 1:>3}  digits: accuracy {result['learners']['digits']['accuracy']:.2f}  ",
            "  ".join(f"{env_id}: return {value:.1f}" for env_id, value in returns.items() if env_id != "digits"),
            flush=True,
        )
    print("test accuracy on digits:", MultiEnvAgent(algo.agent_checkpoint()).evaluate("digits").mean)
    algo.stop()


if __name__ == "__main__":
    main()
