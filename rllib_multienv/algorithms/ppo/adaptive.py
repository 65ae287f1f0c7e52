"""What PPO adapts while training: moments of value targets, and coefficients of the KL penalty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_CURR_KL_COEFF_KEY, LEARNER_RESULTS_KL_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rllib_multienv.learners.hooks import LearnerHook
from rllib_multienv.learners.minibatches import LossMeans
from rllib_multienv.rollout import TARGETS

#: Weight of the newest update in the running means.
RATE = 0.1
_SMALLEST_STD = 1e-2
#: Bounds on a KL coefficient: one this small has no effect, and grows back within a few updates.
SMALLEST, LARGEST = 1e-3, 1e3


@dataclass
class _Running:
    """Exponential means whose weights sum to one from the first update on (as Adam's with bias correction)."""

    weight: float = 0.0
    mean: float = 0.0
    square: float = 0.0
    error: float = 0.0

    def add(self, mean: float, square: float, error: float) -> None:
        self.weight += RATE * (1.0 - self.weight)
        share = RATE / self.weight
        self.mean += share * (mean - self.mean)
        self.square += share * (square - self.square)
        self.error += share * (error - self.error)


class ValueStatistics(LearnerHook):
    """Mean and deviation of the value targets, and the mean squared error of V, of each environment.

    Learners have different environments, and not always the same ones; each adds what it has, and after the sum over
    learners all of them hold the statistics of all.

    Args:
        normalize: Whether the module's values are in units of these moments (``value_normalization="running"``).
    """

    def __init__(self, normalize: bool = False) -> None:
        self._normalize = normalize
        self._running: dict[str, _Running] = {}

    def before_steps(self, learner: Any, batch: dict[str, dict[str, Tensor]]) -> None:
        """Count the value targets, and give the module their new moments."""
        batch = {env_id: columns for env_id, columns in batch.items() if TARGETS not in columns}
        self.update(
            {env_id: columns[Postprocessing.VALUE_TARGETS] for env_id, columns in batch.items()},
            {env_id: columns[Columns.VF_PREDS] for env_id, columns in batch.items()},
            learner.env_ids,
            lambda sums: learner.reduction.sum([sums]),
        )
        if not self._normalize:
            return
        shared = learner.module.shared
        before = dict(shared.value_moments)
        self.set_moments(learner)
        for env_id, columns in batch.items():
            # The old predictions of the network, read with the new moments: clipping compares what it gives out.
            mean, std = before.get(env_id, (0.0, 1.0))
            new_mean, new_std = shared.value_moments[env_id]
            columns[Columns.VF_PREDS] = (columns[Columns.VF_PREDS] - mean) / std * new_std + new_mean

    def set_moments(self, learner: Any) -> None:
        """Give the module the moments of all environments, where its values are in their units."""
        if self._normalize:
            learner.module.shared.value_moments = {env_id: self.moments(env_id) for env_id in learner.env_ids}

    def update(
        self,
        targets: Mapping[str, Tensor],
        predictions: Mapping[str, Tensor],
        env_ids: Sequence[str],
        reduce: Callable[[Tensor], None] = lambda sums: None,
    ) -> None:
        """Count the data of one update.

        Args:
            targets: ``[N_e]`` of this learner's environments; an environment's learners all have all of its rows.
            predictions: V before the update, ``[N_e]``.
            env_ids: All environments of the run, in the order that all learners use.
            reduce: Replaces a tensor by its sum over all learners.
        """
        sums = torch.zeros(len(env_ids), 4, dtype=torch.float64)
        for row, env_id in enumerate(env_ids):
            if env_id in targets:
                target, error = targets[env_id].double(), (targets[env_id] - predictions[env_id]).double()
                sums[row] = torch.stack(
                    [torch.ones_like(target[0]), target.mean(), target.square().mean(), error.square().mean()]
                ).cpu()
        reduce(sums)
        for env_id, (count, *means) in zip(env_ids, sums.tolist(), strict=True):
            if count:
                self._running.setdefault(env_id, _Running()).add(*(value / count for value in means))

    def moments(self, env_id: str) -> tuple[float, float]:
        """Mean and standard deviation of an environment's value targets; 0 and 1 before any were seen."""
        known = self._running.get(env_id)
        if known is None:
            return 0.0, 1.0
        return known.mean, max((known.square - known.mean**2), _SMALLEST_STD**2) ** 0.5

    def error(self, env_id: str) -> float:
        """Running mean of the squared error of V; 1 before any was seen."""
        known = self._running.get(env_id)
        return 1.0 if known is None else known.error

    def get_state(self) -> dict[str, Any]:
        """The running means by environment."""
        return {env_id: dict(vars(running)) for env_id, running in self._running.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._running = {env_id: _Running(**values) for env_id, values in state.items()}


class KLCoefficients(LearnerHook):
    """Adaptive KL coefficients, one per environment (Schulman et al. 2017, section 4).

    PPO's clipped objective takes away what an environment's own steps could gain by moving its policy far. In a shared
    network the steps of all the others move it too, and clipping does not see that. A penalty on the KL divergence from
    the policy that sampled does: however the policy was moved, it has a gradient back.

    The steps are RLlib's: half of it where the divergence is below half of the target, one and a half where it is above
    twice the target.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def after_update(self, learner: Any, means: LossMeans) -> None:
        """Adapt the coefficients to the divergence of this update."""
        for env_id, divergence in learner.mean_over_learners(means, LEARNER_RESULTS_KL_KEY).items():
            config = learner.config.get_config_for_module(env_id)
            value = self.adapt(env_id, divergence, initial=config.kl_coeff, target=config.kl_target)
            learner.metrics.log_value((env_id, LEARNER_RESULTS_CURR_KL_COEFF_KEY), value, window=1)

    def of(self, env_id: str, initial: float) -> float:
        """The coefficient of an environment; ``initial`` before its first update."""
        return self._values.get(env_id, initial)

    def adapt(self, env_id: str, divergence: float, *, initial: float, target: float) -> float:
        """Change the coefficient of an environment after an update, and return it.

        Args:
            env_id: The environment.
            divergence: Mean KL divergence of its policy from the one that sampled; NaN changes nothing.
            initial: See :meth:`of`; zero stays zero.
            target: Divergence aimed at.
        """
        value = self.of(env_id, initial)
        if divergence > 2.0 * target:
            value *= 1.5
        elif divergence < 0.5 * target:
            value *= 0.5
        self._values[env_id] = min(max(value, SMALLEST), LARGEST) if value > 0.0 else 0.0
        return self._values[env_id]

    def get_state(self) -> dict[str, float]:
        """The coefficients by environment."""
        return dict(self._values)

    def set_state(self, state: Mapping[str, float]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._values = dict(state)
