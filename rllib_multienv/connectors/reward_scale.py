"""Env-to-module piece that keeps the running scale of each environment's rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2

from rllib_multienv.normalization import Moments, RewardNormalizer


class RewardScale(ConnectorV2):
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

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Moments and, for this runner alone, the discounted returns of running episodes."""
        return {
            env_id: {
                "base": n.moments.base.to_dict(),
                "delta": n.moments.delta.to_dict(),
                "returns": n.returns.tolist(),
            }
            for env_id, n in self.normalizers.items()
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; running returns only where they are in ``state`` and fit this runner."""
        for env_id, saved in state.items():
            if env_id not in self.normalizers:
                continue
            normalizer = self.normalizers[env_id]
            normalizer.moments.base = Moments.from_dict(saved["base"])
            normalizer.moments.delta = Moments.from_dict(saved["delta"])
            returns = np.asarray(saved.get("returns", ()), dtype=np.float64)
            if returns.shape == normalizer.returns.shape:
                normalizer.returns = returns

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """As :meth:`NormalizeObservations.merge_states`; running returns stay with their runners."""
        merged = {}
        for env_id, normalizer in self.normalizers.items():
            total = normalizer.moments.merge_deltas(
                Moments.from_dict(s[env_id]["delta"]) for s in states if env_id in s
            )
            merged[env_id] = {"base": total.to_dict(), "delta": Moments.empty(1).to_dict()}
        return merged
