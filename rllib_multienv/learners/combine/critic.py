"""Base of methods that weigh the losses of values, and Adam for those that learn one number for each environment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients

Array = np.ndarray


class CriticCombiner(Combiner):
    """Weighs the critic's losses; those of the policy are summed.

    These methods compare losses, and a policy's loss says nothing of its quality: PPO's is near zero whatever the
    policy is worth. A critic's loss is an error.
    """

    of_critic: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    @abstractmethod
    def solve(self, losses: Array, env_ids: Sequence[str], norms: Array | None) -> Array:
        """Weights [K] from positive losses [K] of these environments, and norms [K] of their gradients if needed."""

    def combine(self, tasks: TaskGradients) -> Tensor:
        """Weights [E]; environments without a loss or gradient have the mean of the others."""
        assert tasks.losses is not None
        losses, norms = tasks.losses.double().cpu().numpy(), None
        is_there = losses > 0
        if tasks.gram is not None:
            norms = np.sqrt(tasks.gram.double().cpu().numpy().diagonal())
            is_there &= norms > 0
        weights = np.ones(len(losses))
        if is_there.any():
            env_ids = [env_id for env_id, there in zip(tasks.env_ids, is_there, strict=True) if there]
            found = self.solve(losses[is_there], env_ids, None if norms is None else norms[is_there])
            weights[:] = found.mean()
            weights[is_there] = found
        return torch.from_numpy(weights)


class PerEnvironmentAdam:
    """One number for each environment, moved by Adam (Kingma and Ba 2015); a new environment begins with ``start``."""

    def __init__(self, lr: float, start: float) -> None:
        self.lr, self.start = lr, start
        self.numbers: dict[str, dict[str, float]] = {}

    def of(self, env_ids: Sequence[str]) -> Array:
        """[K]."""
        return np.array([self.numbers.get(env_id, {}).get("value", self.start) for env_id in env_ids])

    def set(self, env_ids: Sequence[str], values: Array) -> None:
        """Replace the numbers, keeping Adam's moments."""
        for env_id, value in zip(env_ids, values, strict=True):
            self.numbers.setdefault(env_id, {"mean": 0.0, "square": 0.0, "steps": 0})["value"] = float(value)

    def step(self, env_ids: Sequence[str], gradient: Array) -> None:
        """Move the numbers of these environments against a gradient [K]."""
        self.set(env_ids, self.of(env_ids))
        for env_id, slope in zip(env_ids, gradient.tolist(), strict=True):
            own = self.numbers[env_id]
            own["steps"] += 1
            own["mean"] += 0.1 * (slope - own["mean"])
            own["square"] += 0.001 * (slope**2 - own["square"])
            mean, square = own["mean"] / (1 - 0.9 ** own["steps"]), own["square"] / (1 - 0.999 ** own["steps"])
            own["value"] -= self.lr * mean / (square**0.5 + 1e-8)
