"""Copies of an Atari game stepped by ale-py's C++ threads, with the standard preprocessing (see `atari`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from rllib_multienv.envs.atari import atari_vector_env
from rllib_multienv.envs.copies import InfoArrays, VectorStep
from rllib_multienv.envs.envpool_backend import cpus
from rllib_multienv.envs.errors import EnvFailure, describe
from rllib_multienv.spec import EnvSpec


class AtariCopies:
    """Copies of a game, with the methods of `copies.SyncCopies` that `EnvCopies` needs.

    Attributes:
        env: The `ale_py.AtariVectorEnv`.
        single_observation_space: Space of a single copy.
        single_action_space: Space of a single copy.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.env_id, self.num_envs = spec.id, num_envs
        threads = spec.kwargs.get("num_threads") or min(num_envs, cpus())
        self.env = atari_vector_env(spec, num_envs, num_threads=threads, autoreset_mode=AutoresetMode.SAME_STEP)
        self.single_observation_space = self.env.single_observation_space
        self.single_action_space = self.env.single_action_space
        self._no_reset = np.zeros(num_envs, dtype=bool)
        self._lives = np.zeros(num_envs, dtype=np.int32)
        self._ends_at_lost_life = bool(spec.kwargs.get("life_loss_info"))

    def __getattr__(self, name: str) -> Any:
        """Everything else, for callbacks, is ale-py's."""
        return getattr(self.env, name)

    def reset_copies(self, seeds: Sequence[int | None]) -> tuple[np.ndarray, Any]:
        """See `SyncCopies.reset_copies`."""
        try:
            obs, infos = self.env.reset(seed=np.array([-1 if seed is None else seed for seed in seeds]))
        except Exception as error:
            raise EnvFailure(self.env_id, "reset", describe(error)) from error
        self._lives = infos["lives"]
        return obs, InfoArrays(infos)

    def step_copies(self, actions: np.ndarray) -> VectorStep:
        """See `SyncCopies.step_copies`."""
        space = self.single_action_space
        if isinstance(space, spaces.Discrete) and not ((actions >= 0) & (actions < space.n)).all():
            # ale-py would wait forever.
            raise EnvFailure(self.env_id, "step", f"the actions {actions} are outside their space {space}")
        try:
            obs, rewards, terminated, truncated, infos = self.env.step(actions)
        except Exception as error:
            raise EnvFailure(self.env_id, "step", describe(error)) from error
        done = terminated | truncated
        final = infos.pop("final_obs", obs)  # [B, ...], where any copy is done
        lost_life = (infos["lives"] < self._lives) & ~done if self._ends_at_lost_life else None
        self._lives = infos["lives"]
        return VectorStep(
            obs,
            rewards.astype(np.float64),
            terminated,
            truncated,
            {b: final[b].copy() for b in np.flatnonzero(done).tolist()},
            self._no_reset,
            InfoArrays(infos),
            lost_life=lost_life,
        )

    def close(self) -> None:
        """Close all copies."""
        self.env.close()
