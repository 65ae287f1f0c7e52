"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905): its settings, and the algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_multienv.algorithms.action_values import ActionValuesAlgorithm
from rllib_multienv.algorithms.off_policy import OffPolicyAlgorithm, OffPolicyConfigMixin
from rllib_multienv.algorithms.sac.learner import MultiEnvSACLearner
from rllib_multienv.algorithms.sac.module import SACSharedModule
from rllib_multienv.algorithms.settings import (
    CountOrZero,
    Fraction,
    LearningRate,
    NonNegative,
    Number,
    PerEnvironment,
    Positive,
    PositiveFraction,
    settings,
)
from rllib_multienv.envs.dataset import is_supervised
from rllib_multienv.spec import EnvSpec


class MultiEnvSACConfig(OffPolicyConfigMixin, AlgorithmConfig):
    """Configuration of :class:`MultiEnvSAC`. Names are those of RLlib's SAC."""

    shared_module_class = SACSharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvSAC)

    @settings
    def training(
        self,
        *,
        tau: PositiveFraction = 0.005,
        initial_alpha: PerEnvironment[Positive] = 1.0,
        target_entropy: PerEnvironment[Number | Literal["auto"]] = "auto",
        target_entropy_share: PerEnvironment[Fraction] = 0.5,
        reward_scale: PerEnvironment[Positive] = 1.0,
        actor_lr: LearningRate | None = None,
        critic_lr: LearningRate | None = None,
        alpha_lr: NonNegative = 3e-4,
        num_random_steps: PerEnvironment[CountOrZero] = 1000,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            tau: Share by which the target networks move in each step.
            initial_alpha: Temperature at the start.
            target_entropy: Entropy of the policy that the temperature is moved towards; ``"auto"``: -1 for each
                continuous component of the action, and ``target_entropy_share`` of the largest for choices and bits.
            target_entropy_share: See ``target_entropy``.
            reward_scale: Factor of rewards (after ``normalize_rewards``).
            actor_lr: Learning rate of the policy; None: ``lr``, and 3e-4 where that is None too. Schedules
                ``[[step, rate], ...]`` are over the environment steps of all environments together.
            critic_lr: Learning rate of Q; None: as for ``actor_lr``.
            alpha_lr: Learning rate of the temperatures' logarithms; 0: they stay as they are.
        """

    def learning_rates(self) -> dict[str, Any]:
        """Rate (or schedule over environment steps) of each group of parameters: ``actor`` and ``critic`` (Q)."""
        rates = super().learning_rates()
        own = {"actor": self.actor_lr, "critic": self.critic_lr}
        return rates | {name: rate for name, rate in own.items() if rate is not None}

    def get_default_learner_class(self) -> type:
        """SAC's learner of this package."""
        return MultiEnvSACLearner

    def _read_space_specs(self, specs: tuple[EnvSpec, ...]) -> None:
        super()._read_space_specs(specs)
        by_id = {spec.id: spec for spec in self.env_specs}
        self.space_specs = {
            env_id: replace(spaces, squashed=bool(spaces.action_low) and not is_supervised(by_id[env_id]))
            for env_id, spaces in self.space_specs.items()
        }


class MultiEnvSAC(ActionValuesAlgorithm, OffPolicyAlgorithm):
    """Soft actor-critic in the off-policy loop, with twin Q and a temperature for each environment.

    Q and the policy take their steps at once, the policy by the Q before this step (docs/deviations.md, 39).
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvSACConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvSACConfig()

    def noise_sizes(self) -> dict[str, int]:
        """Two draws of an action, in the state and in the next, unless it is a single choice."""
        specs = self.config.space_specs
        return {e: 0 if spaces.discrete else 2 * spaces.action_size for e, spaces in specs.items()}
