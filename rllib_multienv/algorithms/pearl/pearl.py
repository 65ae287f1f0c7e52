"""PEARL (Rakelly et al. 2019, arXiv 1903.08254): its settings, and the algorithm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_multienv.algorithms.multi_env_config import network_config
from rllib_multienv.algorithms.off_policy import OffPolicyData
from rllib_multienv.algorithms.pearl.learner import MultiEnvPEARLLearner
from rllib_multienv.algorithms.pearl.module import PEARLSharedModule
from rllib_multienv.algorithms.pearl.replay import PEARLData
from rllib_multienv.algorithms.pearl.runner import PEARLRunner
from rllib_multienv.algorithms.sac.sac import MultiEnvSAC, MultiEnvSACConfig
from rllib_multienv.algorithms.settings import Count, LearningRate, NonNegative, PerEnvironment, settings
from rllib_multienv.envs.make import is_task_family
from rllib_multienv.nets import NetConfig, PosteriorNetConfig


class MultiEnvPEARLConfig(MultiEnvSACConfig):
    """Configuration of :class:`MultiEnvPEARL`: SAC's, and the settings of tasks and contexts.

    The network is any without memory; its ``belief_size`` are the numbers of the latent, its ``inputs`` what the policy
    sees of the last step. Environments are trials of task families: ``EnvSpec(..., trial_episodes=3)``.
    """

    shared_module_class = PEARLSharedModule
    memories: ClassVar[tuple[str, ...]] = ("posterior",)

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvPEARL)
        self.env_runner_cls = PEARLRunner

    @settings
    def training(
        self,
        *,
        batch_size: Count = 256,
        meta_batch_size: Count = 16,
        context_size: Count = 64,
        kl_weight: PerEnvironment[NonNegative] = 0.1,
        exploration_episodes: Count = 1,
        encoder_lr: LearningRate | None = None,
        encoder_sees_reward: bool = True,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            batch_size: Transitions of each environment in a minibatch, over all its tasks and all learners.
            meta_batch_size: Tasks of each environment in a minibatch.
            context_size: Transitions that a task is inferred from, at most.
            kl_weight: Factor of the KL divergence of posteriors from the prior (lambda).
            exploration_episodes: First episodes of a trial whose latents are drawn from the prior.
            encoder_lr: Learning rate of the encoder; None: as for ``critic_lr``.
            encoder_sees_reward: Whether tasks are inferred from rewards too. False where the rewards of training help
                more than those of tests will; observations then show what tests reward.
        """

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration, with the posterior."""
        given = network_config(self._model_config or self.initial_network)
        if not isinstance(given, PosteriorNetConfig):
            given = PosteriorNetConfig(network=given, belief_size=given.belief_size)
        own = {name: getattr(self, name) for name in ("exploration_episodes", "encoder_sees_reward")}
        given = dataclasses.replace(given, **own)
        return given.for_environments(self.space_specs)

    @property
    def adapter(self) -> Mapping[str, Any]:
        """Agents draw their actions: the encoder knows contexts of drawn ones, and the likeliest tell it less."""
        return {**super().adapter, "draws": True}

    def learning_rates(self) -> dict[str, Any]:
        """Rate (or schedule over environment steps) of each group of parameters: also ``encoder``."""
        own = {} if self.encoder_lr is None else {"encoder": self.encoder_lr}
        rates = super().learning_rates()
        return {"encoder": rates["critic"], **rates, **own}

    def get_default_learner_class(self) -> type:
        """PEARL's learner."""
        return MultiEnvPEARLLearner

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        self.require_trials()
        for spec in self.env_specs if not self.in_evaluation else ():
            if is_task_family(spec) and 0 < (spec.trial_episodes or 0) <= self.exploration_episodes:
                self._value_error(
                    f"Environment {spec.id!r}: exploration_episodes={self.exploration_episodes} leave no episode that "
                    f"uses what was inferred. Raise trial_episodes to at least {self.exploration_episodes + 1}."
                )
        if self.batch_size % self.meta_batch_size:
            self._value_error(
                f"batch_size={self.batch_size}: must be a multiple of meta_batch_size={self.meta_batch_size}, so that "
                "each task has equally many transitions."
            )
        if self.batch_sizes_by != "setting":
            self._value_error(f"batch_sizes_by={self.batch_sizes_by!r}: must be 'setting' with PEARL.")
        if self.datasets:
            self._value_error(f"datasets={list(self.datasets)}: data sets have no trials; leave them out with PEARL.")
        for env_id in self.space_specs:
            n_step = self.get_config_for_module(env_id).n_step
            if n_step != 1:
                self._value_error(f"Environment {env_id!r}: n_step={n_step} must be 1 with PEARL.")


class MultiEnvPEARL(MultiEnvSAC):
    """Soft actor-critic on (observation, latent) with an encoder that infers the latent of a task.

    A minibatch has tasks, and of each transitions to learn from and a context: others, of the first episodes of one of
    its recent trials, from which the encoder makes a posterior.
    """

    data_class: ClassVar[type[OffPolicyData]] = PEARLData

    @classmethod
    def get_default_config(cls) -> MultiEnvPEARLConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvPEARLConfig()

    def noise_sizes(self) -> dict[str, int]:
        """For each task a latent, and what SAC draws for each of its transitions."""
        config = self.config
        per_task, latent = config.batch_size // config.meta_batch_size, config.network_config.belief_size
        return {env_id: latent + per_task * size for env_id, size in super().noise_sizes().items()}

    def _batch_sizes(self) -> dict[str, int]:
        """Tasks."""
        return dict.fromkeys(self.config.space_specs, self.config.meta_batch_size)
