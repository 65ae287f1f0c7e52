"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169): its settings, and the algorithm."""

from __future__ import annotations

import math
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_multienv.algorithms.action_values import ActionValuesAlgorithm
from rllib_multienv.algorithms.iql.learner import MultiEnvIQLLearner
from rllib_multienv.algorithms.iql.module import IQLSharedModule
from rllib_multienv.algorithms.offline import OfflineAlgorithm, OfflineConfigMixin
from rllib_multienv.algorithms.settings import (
    Count,
    LearningRate,
    NonNegative,
    OpenFraction,
    PerEnvironment,
    PositiveFraction,
    Schedule,
    is_schedule,
    settings,
)

#: Straight pieces that a cosine is drawn with.
_COSINE_PIECES = 64


class MultiEnvIQLConfig(OfflineConfigMixin, AlgorithmConfig):
    """Configuration of :class:`MultiEnvIQL`.

    Names are those of RLlib's IQL ("critic" is Q, "value" is V); defaults are the paper's (Table 2c).
    """

    shared_module_class = IQLSharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvIQL)

    @settings
    def training(
        self,
        *,
        expectile: PerEnvironment[OpenFraction] = 0.7,
        beta: PerEnvironment[NonNegative] = 3.0,
        tau: PositiveFraction = 0.005,
        actor_lr: LearningRate | None = None,
        critic_lr: LearningRate | None = None,
        value_lr: LearningRate | None = None,
        actor_lr_cosine_steps: Count | None = None,
        normalize_policy_weights: bool = True,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            expectile: Expectile of Q over the data's actions that V estimates (tau in the paper of IQL).
            beta: Inverse temperature: the policy's weights are ``exp(beta * advantage)``, at most 100, with advantages
                in units of normalised rewards. Larger is greedier.
            tau: Share by which the target networks move in each step (alpha in the paper of IQL).
            actor_lr: Learning rate of the policy; None: ``lr``, and 3e-4 where that is None too. Schedules
                ``[[step, rate], ...]`` are over optimiser steps.
            critic_lr: Learning rate of Q; None: as for ``actor_lr``.
            value_lr: Learning rate of V; None: as for ``actor_lr``.
            actor_lr_cosine_steps: The policy's learning rate falls to zero over so many steps, along a cosine.
            normalize_policy_weights: Divide the policy's weights by their mean over the minibatch of their data set, so
                that the policy losses of all environments have one scale (docs/deviations.md, 24).
        """

    def learning_rates(self) -> dict[str, float | Schedule]:
        """Rate (or schedule over steps) of each group of parameters: ``actor``, ``critic`` (Q) and ``value``."""
        rates: dict[str, Any] = {}
        for name in ("actor", "critic", "value"):
            own = getattr(self, f"{name}_lr")
            rates[name] = next(rate for rate in (own, self.lr, 3e-4) if rate is not None)
        if self.actor_lr_cosine_steps is not None:
            rates["actor"] = [
                [
                    self.actor_lr_cosine_steps * piece // _COSINE_PIECES,
                    0.5 * rates["actor"] * (1.0 + math.cos(math.pi * piece / _COSINE_PIECES)),
                ]
                for piece in range(_COSINE_PIECES + 1)
            ]
        return rates

    def get_default_learner_class(self) -> type:
        """IQL's learner of this package."""
        return MultiEnvIQLLearner

    def validate(self) -> None:
        """Check all settings; see :meth:`OfflineConfigMixin.validate`."""
        head = getattr(self.network_config, "value_head", "scalar")
        if head != "scalar":
            self._value_error(f"value_head={head!r}: V is an expectile here, which bins do not give; set 'scalar'.")
        super().validate()
        if self.actor_lr_cosine_steps is not None:
            for name in ("lr", "actor_lr"):
                if is_schedule(getattr(self, name)):
                    self._value_error(f"{name} is a schedule; actor_lr_cosine_steps is for fixed rates.")


class MultiEnvIQL(ActionValuesAlgorithm, OfflineAlgorithm):
    """Implicit Q-learning in the offline loop: Algorithm 2 of the paper."""

    @classmethod
    def get_default_config(cls) -> MultiEnvIQLConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvIQLConfig()
