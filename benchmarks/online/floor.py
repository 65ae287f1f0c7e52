"""What no PPO in this process could be faster than: the environment's own steps and the gradient steps, nothing else.

A row of benchmarks/online_ppo.py, no competitor: actions are drawn beforehand, every copy's step function is called
without any batching, and the gradient steps of the plain loop are made on data that never changes. The forwards while
sampling are not in it, so that even this floor is a little too low.
"""

from __future__ import annotations

import gymnasium as gym
import torch
from competing import compete
from plain_loop import PlainPPO
from settings import Setting, read_command_line


class Floor(PlainPPO):
    """The plain loop without its sampling."""

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        super().__init__(setting, seed)
        self._data = self._sample()
        space = self.envs.single_action_space
        space.seed(seed)
        self._actions = [space.sample() for _ in range(setting.rows)]

    def iterate(self) -> int:
        """Step, then learn; returns the number of environment steps."""
        actions = iter(self._actions)
        for _ in range(self.setting.steps):
            for env in self.envs.envs:
                _, _, terminated, truncated, _ = env.step(next(actions))
                if terminated or truncated:
                    env.reset()
        self._learn(*self._data)
        return self.setting.rows


def main() -> None:
    setting, threads = read_command_line()
    torch.set_num_threads(threads)
    compete(Floor(setting).iterate, {"gymnasium": gym.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main()
