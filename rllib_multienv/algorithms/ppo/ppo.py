"""Decentralised PPO (Algorithm 1 of the paper): its settings, and the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ray.rllib.algorithms.ppo.ppo import PPO, PPOConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2

from rllib_multienv.algorithms.meta_learning import MetaLearningMixin
from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.on_policy import OnPolicyAlgorithm
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.algorithms.ppo.module import PPOSharedModule
from rllib_multienv.algorithms.ppo.proximal_policy import ProximalPolicy
from rllib_multienv.algorithms.settings import (
    Count,
    LearningRate,
    NonNegative,
    PerEnvironment,
    Positive,
    Schedule,
    is_schedule,
    settings,
)


class MultiEnvPPOConfig(MetaLearningMixin, PPOConfig):
    """Configuration of :class:`MultiEnvPPO`.

    An RLlib configuration: its methods are RLlib's, with the settings below. Defaults are the paper's (Table 2a), but 8
    copies of each environment instead of 32 (docs/deviations.md, 14).
    """

    shared_module_class = PPOSharedModule

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **MultiEnvConfigMixin.NO_EFFECT,
        "training": {
            **MultiEnvConfigMixin.NO_EFFECT["training"],
            "entropy_coeff_schedule": "training(entropy_coeff=...) takes a number.",
            "lr_schedule": "Set training(lr=[[0, rate], [step, rate], ...]).",
            "use_critic": "There is always a critic.",
            "use_gae": "Advantages are always generalised advantage estimates; see training(lambda_=...).",
        },
    }

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvPPO)
        self.minibatch_size = None

    @settings
    def training(
        self,
        *,
        actor_lr: LearningRate | None = None,
        critic_lr: LearningRate | None = None,
        lr_anneal_steps: Count | None = None,
        lr_warmup_steps: Count | None = None,
        num_epochs: Count = 10,
        num_minibatches: Count = 8,
        clip_param: PerEnvironment[Positive] = 0.2,
        vf_clip_param: PerEnvironment[Positive | None] = 0.2,
        vf_loss_coeff: PerEnvironment[NonNegative] = 0.5,
        entropy_coeff: PerEnvironment[NonNegative] = 0.0,
        use_kl_loss: bool = False,
        kl_coeff: PerEnvironment[NonNegative] = 0.2,
        kl_target: PerEnvironment[Positive] = 0.01,
        grad_clip: Positive | None = 0.5,
        adam_epsilon: Positive = 1e-5,
        value_normalization: Literal["none", "running"] = "none",
        value_loss_scaling: Literal["none", "running"] = "none",
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            actor_lr: Learning rate of the policy; None: ``lr``, and 3e-4 where that is None too. Schedules
                ``[[step, rate], ...]`` are over the environment steps of all environments together.
            critic_lr: Learning rate of the value function; None: ``lr``, and 5e-4 where that is None too.
            lr_anneal_steps: Both rates fall linearly to zero over so many environment steps (of all environments).
            lr_warmup_steps: Both rates rise linearly, from a tenth of themselves, over so many environment steps.
            num_epochs: Passes over the data in each update.
            num_minibatches: Parts that each environment's data is cut into, each epoch (M in the paper).
            clip_param: Epsilon of the clipped objective.
            vf_clip_param: Largest distance of new value predictions from the old ones, as in the original
                implementation of PPO; None: no bound.
            vf_loss_coeff: Factor of the value loss.
            entropy_coeff: Factor of the entropy bonus.
            use_kl_loss: Add to each environment's loss its KL divergence from the policy that sampled, with a
                coefficient that is adapted to ``kl_target``. It holds a policy where the steps of other environments
                would move it, which clipping does not (docs/deviations.md, 19).
            kl_coeff: Initial coefficient of the divergence.
            kl_target: Divergence that the coefficient is adapted to.
            value_normalization: ``"running"``: V is learned in units of the running mean and deviation of each
                environment's value targets (the normalisation of PopArt; docs/deviations.md, 18).
            value_loss_scaling: ``"running"``: each environment's value loss is divided by its running mean, so that
                all weigh alike in the shared network however well they are known already.
        """

    def learning_rates(self) -> dict[str, float | Schedule]:
        """Rate (or schedule over environment steps) of each group of parameters: ``actor`` and ``critic``."""
        return {
            "actor": self._warmed_and_annealed(_first(self.actor_lr, self.lr, 3e-4)),
            "critic": self._warmed_and_annealed(_first(self.critic_lr, self.lr, 5e-4)),
        }

    def _warmed_and_annealed(self, rate: Any) -> float | Schedule:
        if is_schedule(rate) or not (self.lr_warmup_steps or self.lr_anneal_steps):
            return rate
        points = [[0, 0.1 * rate], [self.lr_warmup_steps, rate]] if self.lr_warmup_steps else [[0, rate]]
        return [*points, [self.lr_anneal_steps, 0.0]] if self.lr_anneal_steps else points

    def get_default_learner_class(self) -> type:
        """PPO's learner of this package."""
        return MultiEnvPPOLearner

    def build_learner_connector(
        self, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
    ) -> ConnectorV2:
        """Batches with advantages and, where sampled ahead, importance weights."""
        pipeline = super().build_learner_connector(input_observation_space, input_action_space, device)
        if self.sample_ahead:
            pipeline.append(ProximalPolicy())
        return pipeline

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        for setting in ("lr_anneal_steps", "lr_warmup_steps"):
            for name in ("lr", "actor_lr", "critic_lr"):
                if getattr(self, setting) is not None and is_schedule(getattr(self, name)):
                    self._value_error(f"{name} is a schedule; {setting} is for fixed rates.")
        if self.lr_anneal_steps and self.lr_warmup_steps and self.lr_warmup_steps >= self.lr_anneal_steps:
            self._value_error(
                f"lr_warmup_steps={self.lr_warmup_steps!r}: must be less than lr_anneal_steps={self.lr_anneal_steps!r}."
            )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


class MultiEnvPPO(OnPolicyAlgorithm, PPO):
    """PPO in the on-policy loop.

    Where fragments were sampled ahead, :class:`~rllib_multienv.algorithms.ppo.proximal_policy.ProximalPolicy` corrects
    for the older policy; values and advantages are computed when the fragments are learned from.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvPPOConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvPPOConfig()
