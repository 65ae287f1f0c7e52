"""VariBAD (Zintgraf et al. 2020, arXiv 1910.08348): its settings, and the algorithm."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from rllib_multienv.algorithms.common_settings import network_config
from rllib_multienv.algorithms.ppo.ppo import MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.algorithms.settings import Count, NonNegative, PerEnvironment, Positive, settings
from rllib_multienv.algorithms.varibad.learner import MultiEnvVariBADLearner
from rllib_multienv.algorithms.varibad.module import VariBADSharedModule
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.env_runners.sampling import SampledRound
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.nets import NetConfig


class MultiEnvVariBADConfig(MultiEnvPPOConfig):
    """Configuration of :class:`MultiEnvVariBAD`: PPO's, and the settings of the belief.

    The network is any, with ``memory="belief"`` and the previous action, reward and end flag as inputs, which need not
    be given. Environments are trials of task families: ``EnvSpec(..., trial_episodes=4)``.
    """

    shared_module_class = VariBADSharedModule
    memories: ClassVar[tuple[str, ...]] = ("belief",)
    trains_worlds: ClassVar[bool] = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvVariBAD)

    @settings
    def training(
        self,
        *,
        vae_lr: Positive = 1e-3,
        kl_weight: PerEnvironment[NonNegative] = 0.1,
        state_loss_coeff: NonNegative = 0.0,
        num_vae_updates: Count = 3,
        vae_batch_num_trajs: Count = 25,
        vae_buffer_size: Count = 1000,
        vae_subsample_elbos: Count = 50,
        vae_subsample_decodes: Count = 50,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            vae_lr: Learning rate of encoder and decoder.
            kl_weight: Factor of the KL divergence of each posterior from the one before (lambda).
            state_loss_coeff: Factor of the errors of predicted next observations; 0: they are not predicted. For
                families whose tasks differ in how the environment moves, not in rewards alone.
            num_vae_updates: Steps of encoder and decoder in each iteration.
            vae_batch_num_trajs: Trials of each environment in such a step, over all learners.
            vae_buffer_size: Trials of each environment that are kept, the newest ones.
            vae_subsample_elbos: Time steps of a trial whose posteriors are trained on, drawn for each step.
            vae_subsample_decodes: Time steps of a trial whose rewards these posteriors predict, drawn for each step.
        """

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration, with a belief and all previous inputs."""
        given = network_config(self._model_config or self.initial_network)
        inputs = ("previous_action", "previous_reward", "previous_done")
        memory: Any = given.memory or "belief"
        return dataclasses.replace(given, memory=memory, inputs=inputs).for_environments(self.space_specs)

    def get_multi_rl_module_spec(self, **kwargs: Any) -> MultiRLModuleSpec:
        """Specification of the agent, with the decoders that the belief needs."""
        spec = super().get_multi_rl_module_spec(**kwargs)
        spec.rl_module_specs[SHARED_MODULE].model_config["decodes_states"] = self.state_loss_coeff > 0
        return spec

    def get_default_learner_class(self) -> type:
        """VariBAD's learner."""
        return MultiEnvVariBADLearner

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        self.require_trials()


class MultiEnvVariBAD(MultiEnvPPO):
    """PPO on encoded observations and a belief about the task.

    The encoder has no gradient from the policy: after PPO's steps on the fragments of an iteration, it is trained with
    a decoder to predict the rewards of whole trials, those to come too, from each of its posteriors.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvVariBADConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvVariBADConfig()

    def _costs(self, sampled: SampledRound) -> dict[str, float]:
        """The same in each iteration, so that an environment stays with the learners that have its trials."""
        return environment_costs(self.config)
