"""An agent with memory: see a cue, and act on it 20 steps later.

Run it with::

    python examples/memory.py [gru|s4|none] [ITERATIONS]

The first observation of an episode is one of two cues, all others are blank. Only the last of 21 actions counts: it
must name the cue. Without memory (``none``) an agent can only guess, and is right half of the time; with it, it is
always right after 60 iterations (half a minute).

``memory="gru"`` or ``"s4"`` is a field of every network's configuration; ``max_seq_len`` is the length of the sequences
that it is trained on. Nothing else changes, also with many environments in one agent. See docs/memory.md.
"""

import sys
from typing import Any, Literal, cast

import gymnasium as gym
import numpy as np

from rllib_multienv import EnvSpec, MLPNetConfig, MultiEnvPPOConfig

DELAY = 20


class Cue(gym.Env):
    """0 is blank, 1 and 2 are the cues; the last action must be the cue minus 1."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Show a cue."""
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return self.cue + 1, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Wait; after `DELAY` steps see whether the action is right."""
        self.t += 1
        is_last = self.t > DELAY
        return 0, float(is_last and action == self.cue), is_last, False, {}


def success(memory: Literal["gru", "s4"] | None, iterations: int, *, seed: int = 0, verbose: bool = False) -> float:
    """Share of right answers of an agent that was trained for so many iterations."""
    config = (
        MultiEnvPPOConfig()
        .environment(envs=[EnvSpec("cue", make=Cue)])
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=DELAY + 1)
        .rl_module(model_config=MLPNetConfig(hidden=(32,), memory=memory, max_seq_len=DELAY + 1))
        .training(lr=3e-3, num_epochs=4, num_minibatches=2, entropy_coeff=0.0)
        .evaluation(evaluation_duration=100)
        .debugging(seed=seed)
    )
    algo = config.build_algo()
    for iteration in range(iterations):
        returns = algo.train()["env_runners"].get("module_episode_return_mean", {"cue": np.nan})
        if verbose and iteration % 5 == 4:
            print(iteration + 1, {"right": round(float(returns["cue"]), 2)}, flush=True)
    right = float(algo.evaluate()["env_runners"]["module_episode_return_mean"]["cue"])
    algo.stop()
    return right


if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else "gru"
    memory = None if kind == "none" else cast(Literal["gru", "s4"], kind)
    right = success(memory, int(sys.argv[2]) if len(sys.argv) > 2 else 60, verbose=True)
    print(f"memory {kind}: {right:.0%} right")
