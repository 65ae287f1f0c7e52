"""The weighted sum of losses (Algorithm 1 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients


class WeightedSum(Combiner):
    """The sum of all environments' gradients; ``training(env_loss_weights=...)`` sets the weights."""

    def combine(self, tasks: TaskGradients) -> Tensor:
        """Ones."""
        return torch.ones(len(tasks.env_ids))
