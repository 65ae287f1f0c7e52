"""Env-to-module piece that keeps the running scale of each environment's rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_multienv.connectors.shared_statistics import SharedStatistics
from rllib_multienv.normalization import RewardNormalizer, SharedMoments


class RewardScale(SharedStatistics):
    """Statistics of discounted returns per env id, in a connector so that RLlib merges and saves them.

    Batches pass through unchanged. The runner gives each finished fragment to :meth:`observe` and attaches
    :meth:`scale` to its episodes; their rewards stay as the environment gave them, and the learner divides.
    """

    def __init__(self, *, num_envs: Mapping[str, int], gammas: Mapping[str, float], **kwargs: Any) -> None:
        """Set up.

        Args:
            num_envs: Copies of each environment on this runner.
            gammas: Discount factor of each environment.
            kwargs: Passed to ``ConnectorV2``.
        """
        super().__init__(**kwargs)
        self.normalizers = {env_id: RewardNormalizer(n, gammas[env_id]) for env_id, n in num_envs.items()}

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Pass ``batch`` on."""
        return batch

    def observe(self, env_id: str, rewards: np.ndarray, dones: np.ndarray, valid: np.ndarray) -> None:
        """Count a fragment, all arguments [T, B]."""
        self.normalizers[env_id].observe(rewards, dones, valid)

    def scale(self, env_id: str) -> float:
        """What rewards of ``env_id`` are to be divided by."""
        return self.normalizers[env_id].scale

    def restart(self, env_id: str) -> None:
        """All copies of ``env_id`` begin new episodes."""
        self.normalizers[env_id].returns[:] = 0.0

    def moments(self) -> Mapping[str, SharedMoments]:
        """Statistics of each environment's discounted return."""
        return {env_id: normalizer.moments for env_id, normalizer in self.normalizers.items()}

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Moments and, for this runner alone, the discounted returns of running episodes."""
        state = super().get_state()
        for env_id, normalizer in self.normalizers.items():
            state[env_id]["returns"] = normalizer.returns.tolist()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; running returns only where they are in ``state`` and fit this runner."""
        super().set_state(state)
        for env_id, normalizer in self.normalizers.items():
            returns = np.asarray(state.get(env_id, {}).get("returns", ()), dtype=np.float64)
            if returns.shape == normalizer.returns.shape:
                normalizer.returns = returns
