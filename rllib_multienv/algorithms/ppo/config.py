"""PPO's configuration."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo.ppo import PPOConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.utils.schedules.scheduler import Scheduler

from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.connectors import EpisodesToBatch, GeneralizedAdvantages, ProximalPolicy


class MultiEnvPPOConfig(MultiEnvConfigMixin, PPOConfig):
    """Configuration of :class:`~rllib_multienv.algorithms.ppo.ppo.MultiEnvPPO`.

    An RLlib configuration: its methods are RLlib's, with the additions below. Each iteration, every runner that owns an
    environment contributes ``rollout_fragment_length`` time steps of ``num_envs_per_env_runner`` copies of it; there is
    no train batch size to set. Defaults are the paper's (Table 2a), but 8 copies instead of 32
    (docs/deviations.md, 11).
    """

    PER_ENVIRONMENT = (
        "gamma",
        "lambda_",
        "clip_param",
        "vf_clip_param",
        "vf_loss_coeff",
        "entropy_coeff",
        "kl_coeff",
        "kl_target",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        if algo_class is None:
            from rllib_multienv.algorithms.ppo.ppo import MultiEnvPPO

            algo_class = MultiEnvPPO
        super().__init__(algo_class=algo_class)
        self._set_multi_env_defaults()
        self.gamma = 0.99
        self.lambda_ = 0.95
        self.clip_param = 0.2
        self.vf_clip_param: float | None = 0.2
        self.vf_loss_coeff = 0.5
        self.entropy_coeff = 0.0
        self.grad_clip = 0.5
        self.num_epochs = 10
        self.num_minibatches = 8
        self.minibatch_size = None
        self.actor_lr: Any = 3e-4
        self.critic_lr: Any = 5e-4
        self.lr_anneal_steps: int | None = None
        self.lr_warmup_steps: int | None = None
        self.value_normalization = "none"
        self.value_loss_scaling = "none"
        self.adam_epsilon = 1e-5
        self.min_advantage_std = 0.05
        self.use_kl_loss = False
        self.sample_ahead = False

    def training(
        self,
        *,
        actor_lr: Any = NotProvided,
        critic_lr: Any = NotProvided,
        lr: Any = NotProvided,
        lr_anneal_steps: Any = NotProvided,
        lr_warmup_steps: Any = NotProvided,
        num_minibatches: Any = NotProvided,
        min_advantage_std: Any = NotProvided,
        value_normalization: Any = NotProvided,
        value_loss_scaling: Any = NotProvided,
        normalize_rewards: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how to train.

        Args:
            actor_lr: Learning rate of the policy; a number, or a schedule ``[[step, rate], ...]`` over the environment
                steps of all environments together.
            critic_lr: Learning rate of the value function.
            lr: Sets both.
            lr_anneal_steps: Let both fall linearly to zero over so many environment steps (of all environments).
            lr_warmup_steps: Let both rise linearly, from a tenth of themselves, over so many environment steps.
            num_minibatches: Number M of parts that each environment's data is cut into, each epoch.
            min_advantage_std: Advantages are divided by their standard deviation or by this, whichever is larger (only
                with normalised rewards, whose discounted return has deviation one). Where an environment is solved,
                what is left of its advantages is noise; blown up to unit size it would undo what was learned.
            value_normalization: ``"none"``, or ``"running"``: V is learned in units of the running mean and deviation
                of each environment's value targets (the normalisation of PopArt; docs/deviations.md, 18).
            value_loss_scaling: ``"none"``, or ``"running"``: each environment's value loss is divided by its running
                mean, so that all weigh alike in the shared network however well they are known already.
            normalize_rewards: Whether rewards are divided by the running deviation of their discounted return.
            kwargs: See :meth:`MultiEnvConfigMixin.training` and ``PPOConfig.training``; ``vf_clip_param`` here bounds
                the distance of new value predictions from the old ones (None for no bound), as in the original
                implementation of PPO. ``use_kl_loss=True`` adds to each environment's loss its KL divergence from the
                policy that sampled, with a coefficient that is adapted to ``kl_target``: it holds a policy where
                the steps of other environments would carry it away, which clipping does not (docs/deviations.md, 24).

        Raises:
            ValueError: A setting of RLlib's PPO that has no meaning here.
        """
        for name, instead in (
            ("train_batch_size", "env_runners(rollout_fragment_length=..., num_envs_per_env_runner=...)"),
            (
                "train_batch_size_per_learner",
                "env_runners(rollout_fragment_length=..., num_envs_per_env_runner=...)",
            ),
            ("minibatch_size", "training(num_minibatches=...)"),
        ):
            if name in kwargs:
                raise ValueError(f"training({name}=...) has no meaning with several environments; set {instead}.")
        super().training(**kwargs)
        if lr is not NotProvided:
            self.actor_lr = self.critic_lr = self.lr = lr
        self._set_given(
            actor_lr=actor_lr,
            critic_lr=critic_lr,
            lr_anneal_steps=lr_anneal_steps,
            lr_warmup_steps=lr_warmup_steps,
            num_minibatches=num_minibatches,
            min_advantage_std=min_advantage_std,
            value_normalization=value_normalization,
            value_loss_scaling=value_loss_scaling,
            normalize_rewards=normalize_rewards,
        )
        return self

    def env_runners(self, *, sample_ahead: Any = NotProvided, **kwargs: Any) -> Self:
        """Set how to sample.

        Args:
            sample_ahead: Whether remote runners sample the next iteration's fragments while the learners learn from
                this one's. The policy that samples is then one update older than it would be, for which
                :class:`~rllib_multienv.connectors.ProximalPolicy` corrects. It pays where runners and learners have
                CPUs (or a GPU) of their own and neither takes most of the time.
            kwargs: See ``AlgorithmConfig.env_runners``.
        """
        super().env_runners(**kwargs)
        self._set_given(sample_ahead=sample_ahead)
        return self

    def get_default_learner_class(self) -> type:
        """PPO's learner of this package."""
        from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner

        return MultiEnvPPOLearner

    def build_learner_connector(
        self, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
    ) -> ConnectorV2:
        """The user's pieces, then batches by environment, advantages and, where sampled ahead, importance weights."""
        pipeline = super().build_learner_connector(input_observation_space, input_action_space, device)
        pipeline.append(EpisodesToBatch())
        pipeline.append(GeneralizedAdvantages(config=self, device=device))
        if self.sample_ahead:
            pipeline.append(ProximalPolicy())
        return pipeline

    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        """There is no train batch size that could contradict the fragment length."""

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting and what would be right.
        """
        super().validate()
        for name in ("actor_lr", "critic_lr"):
            Scheduler.validate(
                fixed_value_or_schedule=getattr(self, name), setting_name=name, description="learning rate"
            )
        self._validate_learning_rate_steps()
        for name in ("value_normalization", "value_loss_scaling"):
            self._validate_choice(name, ("none", "running"))
        for env_id in self.space_specs:
            self._validate_kl(env_id)
        if not self.in_evaluation:
            self._validate_minibatches()
            if self.sample_ahead and not self.num_env_runners:
                self._value_error(
                    "sample_ahead=True: the local runner cannot sample while this process learns; set "
                    "env_runners(num_env_runners=...) to at least 1, or leave sample_ahead out."
                )

    def _validate_kl(self, env_id: str) -> None:
        own = self.get_config_for_module(env_id)
        if not own.kl_coeff >= 0.0:
            self._value_error(f"environment {env_id!r}: kl_coeff={own.kl_coeff!r}: must not be negative.")
        if not own.kl_target > 0.0:
            self._value_error(f"environment {env_id!r}: kl_target={own.kl_target!r}: must be positive.")

    def _validate_learning_rate_steps(self) -> None:
        for setting in ("lr_anneal_steps", "lr_warmup_steps"):
            steps = getattr(self, setting)
            if steps is None:
                continue
            if not steps > 0:
                self._value_error(f"{setting}={steps!r}: must be a positive number or None.")
            for name in ("actor_lr", "critic_lr"):
                if not isinstance(getattr(self, name), int | float):
                    self._value_error(f"{name} is a schedule of its own; {setting} is for fixed rates.")
        if self.lr_anneal_steps and self.lr_warmup_steps and self.lr_warmup_steps >= self.lr_anneal_steps:
            self._value_error(
                f"lr_warmup_steps={self.lr_warmup_steps!r}: must be less than lr_anneal_steps={self.lr_anneal_steps!r}."
            )

    def _validate_minibatches(self) -> None:
        self._validate_count("num_minibatches")
        length = self.get_rollout_fragment_length()
        for spec in self.env_specs:
            rows = length * self.num_copies(spec)
            if rows < self.num_minibatches:
                self._value_error(
                    f"Environment {spec.id!r} gives {rows} steps per fragment ({length} time steps of "
                    f"{self.num_copies(spec)} copies), fewer than num_minibatches={self.num_minibatches}."
                )
