"""Structured exploration by a latent for each task: settings of MAESN, and the algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from rllib_multienv.algorithms.maesn.learner import MultiEnvMAESNLearner
from rllib_multienv.algorithms.maesn.module import MAESNSharedModule
from rllib_multienv.algorithms.maesn.runner import MAESNRunner
from rllib_multienv.algorithms.maml.maml import MultiEnvMAML, MultiEnvMAMLConfig
from rllib_multienv.algorithms.settings import Count, NonNegative, Positive, settings
from rllib_multienv.envs.make import is_task_family
from rllib_multienv.latent_loop import LatentLoop, check_numbers
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.nets import NetConfig


class MultiEnvMAESNConfig(MultiEnvMAMLConfig):
    """Configuration of :class:`MultiEnvMAESN`: that of MAML, but for what is adapted. All environments are families."""

    shared_module_class = MAESNSharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvMAESN)
        self.env_runner_cls = MAESNRunner

    @settings
    def training(
        self,
        *,
        inner_lr: Positive = 1.0,
        learn_inner_lr: bool = True,
        latent_size: Count = 2,
        num_train_tasks: Count = 100,
        prior_coeff: NonNegative = 0.1,
        latent_lr: Positive = 0.02,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            inner_lr: Where the step sizes of latents start.
            learn_inner_lr: Has no effect: step sizes are always learned, one for each number of a latent.
            latent_size: Numbers of a latent (D).
            num_train_tasks: Tasks of training of each environment, a fixed list. Each has a latent of its own.
            prior_coeff: Factor of the KL divergence of the tasks' latents from the prior N(0, 1).
            latent_lr: Learning rate of latents and step sizes.
        """

    @property
    def inner_loop(self) -> LatentLoop:
        """The inner steps."""
        return LatentLoop(**vars(super().inner_loop), latent_size=self.latent_size, prior_coeff=self.prior_coeff)

    @property
    def adapter(self) -> dict[str, Any]:
        """How agents adapt."""
        return {**super().adapter, "type": "latent_loop"}

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration, which sees noise last."""
        network = super().network_config
        own = f"noise:{self.latent_size}"
        return replace(network, inputs=(*(one for one in network.inputs if one != own), own))

    def learning_rates(self) -> dict[str, Any]:
        """Those of the policy, and of latents and step sizes."""
        return {**super().learning_rates(), "latents": self.latent_lr}

    def get_default_learner_class(self) -> type:
        """The learner of this algorithm."""
        return MultiEnvMAESNLearner

    def get_multi_rl_module_spec(self, **kwargs: Any) -> MultiRLModuleSpec:
        """Specification of the agent, with latents and their step sizes."""
        spec = super().get_multi_rl_module_spec(**kwargs)
        spec.rl_module_specs[SHARED_MODULE].model_config |= {
            "learned_step_size": self.inner_lr,
            "latent_size": self.latent_size,
            "num_train_tasks": self.num_train_tasks,
        }
        return spec

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        if self.method == "reptile":
            self._value_error("method='reptile': latents have no start in common. Set training(method='promp').")
        if not self.learn_inner_lr:
            self._value_error("learn_inner_lr=False: step sizes of latents are learned. Leave it out.")
        super().validate()
        for spec in self.env_specs:
            if not is_task_family(spec):
                self._value_error(f"Environment {spec.id!r} is no task family: it has no tasks with latents.")
            check_numbers(self.space_specs[spec.id])


class MultiEnvMAESN(MultiEnvMAML):
    """MAML whose inner steps change a latent of the task alone, from which z is drawn for each episode."""

    @classmethod
    def get_default_config(cls) -> MultiEnvMAESNConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvMAESNConfig()
