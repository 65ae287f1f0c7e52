"""Learned temperatures, one per environment (Haarnoja et al. 2018, arXiv 1812.05905, section 5)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rllib_multienv.learners.hooks import LearnerHook
from rllib_multienv.spaces.rows import ActionRow

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass
class _LogAlpha:
    """A logarithm, and the state of its Adam."""

    value: float
    mean: float = 0.0
    square: float = 0.0
    steps: int = 0

    def step(self, gradient: float, lr: float) -> None:
        self.steps += 1
        self.mean += (1.0 - _BETA1) * (gradient - self.mean)
        self.square += (1.0 - _BETA2) * (gradient**2 - self.square)
        mean, square = self.mean / (1.0 - _BETA1**self.steps), self.square / (1.0 - _BETA2**self.steps)
        self.value -= lr * mean / (math.sqrt(square) + _EPSILON)


class Temperatures(LearnerHook):
    """The temperature alpha of each environment, moved so that the policy's entropy comes to a target.

    Temperatures are no parameters of the module: they are of the environments, and the learner's. Each step is
    computed from sums over all learners, so all of them hold the same temperatures.
    """

    def __init__(self) -> None:
        self._logs: dict[str, _LogAlpha] = {}

    def of(self, env_id: str, initial: float) -> float:
        """The temperature of an environment; ``initial`` before its first step."""
        return math.exp(self._logs[env_id].value) if env_id in self._logs else initial

    def step(self, env_id: str, entropy: float, *, target: float, lr: float, initial: float) -> None:
        """One step of Adam on ``log alpha * (entropy - target)``.

        Args:
            env_id: The environment.
            entropy: Mean entropy of its policy over the minibatch of all learners; one that is not finite is ignored.
            target: Entropy aimed at.
            lr: Learning rate.
            initial: See :meth:`of`.
        """
        if lr > 0.0 and math.isfinite(entropy):
            self._logs.setdefault(env_id, _LogAlpha(math.log(initial))).step(entropy - target, lr)

    def keep_only(self, env_ids: Collection[str]) -> None:
        """Forget environments that have left."""
        self._logs = {env_id: log for env_id, log in self._logs.items() if env_id in env_ids}

    def get_state(self) -> dict[str, Any]:
        """Logarithms with the state of Adam, by environment."""
        return {env_id: asdict(log) for env_id, log in self._logs.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._logs = {env_id: _LogAlpha(**values) for env_id, values in state.items()}


def target_entropy(row: ActionRow, share: float) -> float:
    """Entropy to aim at: -1 for each continuous component, and a share of the largest for choices and bits.

    Args:
        row: The actions.
        share: Of the entropy of uniform choices (Christodoulou 2019).
    """
    uniform = sum(math.log(part.size) for part in row.parts if part.kind == "categorical")
    uniform += sum(part.size * math.log(2.0) for part in row.parts if part.kind == "bernoulli")
    return share * uniform - row.num_continuous
