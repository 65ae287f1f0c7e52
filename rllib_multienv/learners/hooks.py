"""Learner hooks: diagnostics and adaptive quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rllib_multienv.learners.gradients import flat_gradient
from rllib_multienv.learners.minibatches import LossMeans, Step
from rllib_multienv.metrics import GRADIENT_COSINE


class LearnerHook:
    """Called by a learner in each update, by all learners together and in the same order.

    All methods may do nothing. What a hook adapts is part of checkpoints.
    """

    def before_steps(self, learner: Any, batch: dict[str, dict[str, Tensor]]) -> None:
        """Before the first step, with this learner's whole batch ``{env_id: {column: [N_e, ...]}}``, which may change.

        An environment's learners all have all of its rows.
        """

    def before_backward(self, learner: Any, step: Step, losses: Mapping[str, Tensor]) -> None:
        """In each step, with this learner's share of each environment's loss; graphs must be retained."""

    def after_update(self, learner: Any, means: LossMeans) -> None:
        """After the last step, with the means of what this learner has logged."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""


class GradientCosines(LearnerHook):
    """Cosines between the environments' gradients, in the first step of every so many updates.

    A negative cosine means that a step which helps one environment harms the other (negative interference; Yu et al.
    2020, arXiv 2001.06782). It costs one more backward for each environment.

    Args:
        interval: Updates between two measurements.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval

    def before_backward(self, learner: Any, step: Step, losses: Mapping[str, Tensor]) -> None:
        """Log the cosine of each pair of environments; pairs with a gradient of zero are left out."""
        if step.number or (step.update - 1) % self._interval:
            return
        rows = []
        for env_id in learner.env_ids:
            rows.append(flat_gradient(losses.get(env_id), learner.parameters, retain_graph=True))
            learner.reduction.sum([rows[-1]])
        if not learner.is_first:
            return
        gradients = torch.stack(rows)  # [E, P]
        norms, products = gradients.norm(dim=1), gradients @ gradients.T
        for first, env_a in enumerate(learner.env_ids):
            for second in range(first + 1, len(rows)):
                size = norms[first] * norms[second]
                if size > 0:
                    place = (env_a, GRADIENT_COSINE, learner.env_ids[second])
                    learner.metrics.log_value(place, products[first, second] / size, reduce="mean")


class RunningNorms(LearnerHook):
    """Running means of the norms of the environments' gradients, by group of parameters (actor, critic).

    The learner measures them in the first step of each update; all learners have the same.
    """

    _KEPT = 0.8  # share of the old mean in the new one

    def __init__(self) -> None:
        self._norms: dict[str, dict[str, float]] = {}

    def observe(self, group: str, env_ids: Sequence[str], norms: Tensor) -> None:
        """Count norms [E]; environments with a gradient of zero, or one that is not finite, are left out."""
        means = self._norms.setdefault(group, {})
        for env_id, norm in zip(env_ids, norms.tolist(), strict=True):
            if 0 < norm < float("inf"):
                means[env_id] = self._KEPT * means.get(env_id, norm) + (1 - self._KEPT) * norm

    def of(self, group: str, env_ids: Sequence[str]) -> Tensor:
        """Norms [E]; zero where none was measured."""
        means = self._norms.get(group, {})
        return torch.tensor([means.get(env_id, 0.0) for env_id in env_ids])

    def get_state(self) -> dict[str, Any]:
        """The means."""
        return {group: dict(means) for group, means in self._norms.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over means."""
        self._norms = {group: dict(means) for group, means in state.items()}
