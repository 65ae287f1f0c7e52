"""Adaptation by gradients: settings of MAML, ProMP, Reptile and Meta-SGD, and the algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec

from rllib_multienv.algorithms.maml.batches import TrialBatches
from rllib_multienv.algorithms.maml.learner import MultiEnvMAMLLearner
from rllib_multienv.algorithms.maml.module import MAMLSharedModule
from rllib_multienv.algorithms.maml.runner import MAMLRunner
from rllib_multienv.algorithms.on_policy import OnPolicyAlgorithm, OnPolicyConfigMixin
from rllib_multienv.algorithms.settings import (
    Count,
    Fraction,
    NonNegative,
    PerEnvironment,
    Positive,
    declared_settings,
    settings,
)
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.inner_loop import InnerLoop
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.spec import EnvSpec


class MultiEnvMAMLConfig(OnPolicyConfigMixin, AlgorithmConfig):
    """Configuration of :class:`MultiEnvMAML`.

    All environments have trials, whose length follows from ``inner_steps`` and ``inner_episodes``. Fragments must be as
    long as the longest trial (``rollout_fragment_length``); each copy has one task in each.
    """

    shared_module_class = MAMLSharedModule
    memories: ClassVar[tuple[str, ...]] = ()
    trains_worlds: ClassVar[bool] = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MultiEnvMAML)
        self.env_runner_cls = MAMLRunner

    @settings
    def training(
        self,
        *,
        method: Literal["maml", "promp", "reptile"] = "promp",
        order: Literal[1, 2] = 2,
        inner_lr: Positive = 0.1,
        inner_lr_decay: Positive = 0.5,
        learn_inner_lr: bool = False,
        inner_steps: Count = 1,
        inner_episodes: Count = 10,
        gamma: Fraction = 0.99,
        lambda_: Fraction = 1.0,
        num_epochs: Count = 5,
        clip_param: PerEnvironment[Positive] = 0.3,
        kl_coeff: PerEnvironment[NonNegative] = 0.0,
        normalize_rewards: bool = False,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            method: ``"maml"``: steps of the score function (Finn et al. 2017). ``"promp"``: steps of the likelihood
                ratio (Rothfuss et al. 2019). Both have PPO's clipped objective after the last step. ``"reptile"``: the
                start moves towards the adapted parameters (Nichol et al. 2018).
            order: 1: leave second derivatives out (FOMAML). The agnostic (S4) network has no others. No effect on
                Reptile, which needs none.
            inner_lr: Step size of the first inner step (alpha).
            inner_lr_decay: Factor of the step sizes from each inner step to the next. The advantages of each step are
                standardised, so that gradients do not become smaller near a good policy.
            learn_inner_lr: Learn a step size for each parameter (Meta-SGD, Li et al. 2017), which starts at
                ``inner_lr``.
            inner_steps: Inner steps that training looks ahead.
            inner_episodes: Episodes before each inner step, and after the last one.
            lambda_: Lambda of generalised advantage estimation, with a linear baseline for each task and step.
            num_epochs: Meta-steps in each iteration, on the same episodes.
            num_minibatches: Parts that each environment's trials are cut into.
            clip_param: Epsilon of the clipped objective.
            kl_coeff: Factor of the KL divergence of the policies before each inner step from those that sampled.
            normalize_rewards: Has no effect: advantages are standardised for each task and step.
        """

    @property
    def inner_loop(self) -> InnerLoop:
        """The inner steps."""
        return InnerLoop(
            method=self.method,
            lr=self.inner_lr,
            lr_decay=self.inner_lr_decay,
            steps=self.inner_steps,
            episodes=self.inner_episodes,
            order=self.order,
            gamma=self.gamma,
            lambda_=self.lambda_,
        )

    @property
    def adapter(self) -> Mapping[str, Any]:
        """Agents adapt by inner steps."""
        return {"type": "inner_loop", **asdict(self.inner_loop)}

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments of the run, in trials.

        Raises:
            ValueError: None was given, or one has trials of another length.
        """
        specs, episodes = super().env_specs, self.inner_loop.trial_episodes
        for spec in specs:
            if spec.trial_episodes not in (None, episodes):
                self._value_error(
                    f"Environment {spec.id!r} has trial_episodes={spec.trial_episodes!r}, but inner_steps="
                    f"{self.inner_steps} and inner_episodes={self.inner_episodes} make trials of {episodes}. Leave "
                    "trial_episodes out, or set training(inner_episodes=..., inner_steps=...)."
                )
        return tuple(replace(spec, trial_episodes=episodes) for spec in specs)

    def learning_rates(self) -> dict[str, Any]:
        """Rate (or schedule over environment steps) of the policy; 1e-3 where ``lr`` is None."""
        return {"actor": 1e-3 if self.lr is None else self.lr}

    def get_default_learner_class(self) -> type:
        """The learner of this algorithm."""
        return MultiEnvMAMLLearner

    def get_multi_rl_module_spec(self, **kwargs: Any) -> MultiRLModuleSpec:
        """Specification of the agent, with the step sizes where these are learned."""
        spec = super().get_multi_rl_module_spec(**kwargs)
        start = self.inner_lr if self.learn_inner_lr else None
        spec.rl_module_specs[SHARED_MODULE].model_config["learned_step_size"] = start
        return spec

    def build_learner_connector(
        self, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
    ) -> ConnectorV2:
        """The user's pieces, then batches of trials."""
        pipeline = super(OnPolicyConfigMixin, self).build_learner_connector(
            input_observation_space, input_action_space, device
        )
        pipeline.append(TrialBatches(config=self, device=device))
        return pipeline

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        for name in ("advantages_across_episodes", "min_advantage_std", "normalize_rewards"):
            if getattr(self, name) != declared_settings(type(self))[name].parameter.default:
                self._value_error(
                    f"{name}={getattr(self, name)!r} has no effect: advantages end with their episode, and are "
                    "standardised for each task and step. Leave it out."
                )
        if self.sample_ahead:
            self._value_error("sample_ahead=True: inner steps start at the present parameters. Leave it out.")
        if self.precision != "float32":
            self._value_error(f"precision={self.precision!r}: the meta-gradient is computed in float32. Leave it out.")
        if self.method == "reptile" and self.learn_inner_lr:
            self._value_error("learn_inner_lr=True: Reptile has no gradient of step sizes. Leave it out.")
        for spec in self.env_specs if not self.in_evaluation else ():
            copies, length = self.num_copies(spec), self.get_rollout_fragment_length()
            limit = episode_limit(spec)
            longest = (limit or 0) * self.inner_loop.trial_episodes
            if longest > length:
                self._value_error(
                    f"Environment {spec.id!r}: rollout_fragment_length={self.rollout_fragment_length!r} must be at "
                    f"least {longest}, {spec.trial_episodes} episodes of {limit} time steps: only whole trials are "
                    f"trained on. Set env_runners(rollout_fragment_length={longest}), fewer "
                    "training(inner_episodes=...), or EnvSpec(..., max_episode_steps=...)."
                )
            trials = copies * (length // longest if longest else 1)
            if trials < self.num_minibatches:
                self._value_error(
                    f"Environment {spec.id!r} gives {trials} trials per fragment ({length} time steps of {copies} "
                    f"copies), fewer than num_minibatches={self.num_minibatches}. A trial is not divided: set fewer "
                    "minibatches, or more copies."
                )
        small = self.network_config.build(self.space_specs)
        self.inner_loop.check(small, self.network_config.type)


class MultiEnvMAML(OnPolicyAlgorithm):
    """One iteration: each copy plays a trial of one task, in which its policy adapts; then the meta-steps.

    Runners take the inner steps from the present parameters as they sample. Learners take them again, and differentiate
    what they lead to.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvMAMLConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvMAMLConfig()
