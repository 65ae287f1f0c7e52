"""IQL's configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.schedules.scheduler import Scheduler

from rllib_multienv.algorithms.iql.module import IQLSharedModule
from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.search_space import is_search_space
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.loading import REWARD_NORMALIZATIONS
from rllib_multienv.offline.sources import absolute, check_source, peek_spaces
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs

#: Straight pieces that a cosine is drawn with.
_COSINE_PIECES = 64


class MultiEnvIQLConfig(MultiEnvConfigMixin, AlgorithmConfig):
    """Configuration of :class:`~rllib_multienv.algorithms.iql.iql.MultiEnvIQL`.

    Environments are needed for evaluation alone: a data set whose id is not among them has the spaces that it says
    itself. Each update draws ``batch_size`` transitions of every data set. Names are those of RLlib's IQL ("critic" is
    Q, "value" is V); defaults are the paper's (Table 2c).
    """

    PER_ENVIRONMENT = ("gamma", "expectile", "beta", "batch_size", "reward_normalization")

    shared_module_class = IQLSharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        if algo_class is None:
            from rllib_multienv.algorithms.iql.iql import MultiEnvIQL

            algo_class = MultiEnvIQL
        super().__init__(algo_class=algo_class)
        self._set_multi_env_defaults()
        self.normalize_rewards = False
        self.datasets: dict[str, Any] = {}
        self.data_dir: str | None = None
        self.memory_map_dir: str | None = None
        self.reference_scores: dict[str, tuple[float, float]] = {}
        self.num_updates_per_iteration = 1000
        self.batch_size = 256
        self.gamma = 0.99
        self.expectile = 0.7
        self.beta = 3.0
        self.tau = 0.005
        self.actor_lr: Any = 3e-4
        self.critic_lr: Any = 3e-4
        self.value_lr: Any = 3e-4
        self.actor_lr_cosine_updates: int | None = None
        self.adam_epsilon = 1e-8
        self.grad_clip = None
        self.reward_normalization = "return_range"
        self.scale_values = True
        self.normalize_policy_weights = True
        self.evaluation_duration = 10

    # Methods that users call

    def environment(self, envs: Any = NotProvided, **kwargs: Any) -> Self:
        """Set the environments to evaluate on; there may be none.

        Args:
            envs: See :meth:`MultiEnvConfigMixin.environment`.
            kwargs: See there.
        """
        if isinstance(envs, list | tuple) and not envs:
            self.envs, envs = (), NotProvided
        return super().environment(envs, **kwargs)

    def offline_data(
        self,
        *,
        datasets: Any = NotProvided,
        data_dir: str | Path | None = NotProvided,
        memory_map_dir: str | Path | None = NotProvided,
        reference_scores: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the data sets.

        Args:
            datasets: ``{env_id: source}``. A source is an HDF5 file in D4RL's layout, ``"minari:NAME"``, RLlib episodes
                in Parquet, a folder of any of these, ``"d4rl:NAME"``, a callable that returns arrays (or its
                ``"module:function"``), or a mapping with ``record``
                (see :mod:`rllib_multienv.offline.formats.recorded`).
            data_dir: Where files of ``"d4rl:NAME"`` are; D4RL's cache folder where not given.
            memory_map_dir: A folder on a local disk where arrays are laid out and mapped into memory, for data sets
                that are larger than it. None to hold them in memory.
            reference_scores: ``{env_id: (random return, expert return)}`` for normalised scores, where the data set
                does not say or others are wanted.
            kwargs: None of RLlib's: they are about its own data path.

        Raises:
            ValueError: A setting of RLlib's own offline data.
        """
        if kwargs:
            known = ("datasets", "data_dir", "memory_map_dir", "reference_scores")
            name = next(iter(kwargs))
            raise ValueError(
                f"offline_data({name}=...) belongs to RLlib's own data path, which has one data set; here there are "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )
        if datasets is not NotProvided:
            if not is_search_space(datasets) and not (isinstance(datasets, Mapping) and datasets):
                raise ValueError(f"datasets={datasets!r}: must be a mapping of env ids to sources, with one at least.")
            self.datasets = datasets if is_search_space(datasets) else dict(datasets)
        if reference_scores is not NotProvided:
            self.reference_scores = {key: (float(low), float(high)) for key, (low, high) in reference_scores.items()}
        for name, value in (("data_dir", data_dir), ("memory_map_dir", memory_map_dir)):
            if value is not NotProvided:
                setattr(self, name, None if value is None else str(Path(value).expanduser().absolute()))
        if not is_search_space(self.datasets):
            self.datasets = {key: absolute(source, data_dir=self.data_dir) for key, source in self.datasets.items()}
        return self

    def training(
        self,
        *,
        num_updates_per_iteration: Any = NotProvided,
        batch_size: Any = NotProvided,
        expectile: Any = NotProvided,
        beta: Any = NotProvided,
        tau: Any = NotProvided,
        actor_lr: Any = NotProvided,
        critic_lr: Any = NotProvided,
        value_lr: Any = NotProvided,
        lr: Any = NotProvided,
        actor_lr_cosine_updates: Any = NotProvided,
        reward_normalization: Any = NotProvided,
        scale_values: Any = NotProvided,
        normalize_policy_weights: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how to train.

        Args:
            num_updates_per_iteration: Optimiser steps between two results.
            batch_size: Transitions of each data set in a step.
            expectile: Which expectile of Q over the data's actions V is to be, in (0, 1).
            beta: Inverse temperature: the policy's weights are ``exp(beta * advantage)``, at most 100, with advantages
                in units of normalised rewards. Larger is greedier.
            tau: Share by which the target networks move in each step.
            actor_lr: Learning rate of the policy; a number, or a schedule ``[[update, rate], ...]``.
            critic_lr: Of Q.
            value_lr: Of V.
            lr: Sets all three.
            actor_lr_cosine_updates: Let the policy's learning rate fall to zero over so many updates, along a cosine.
            reward_normalization: ``"none"``, ``"standardize"``, ``"return_range"`` (returns of the data set's episodes
                span 1000: D4RL's locomotion) or ``"minus_one"`` (AntMaze); may differ between environments.
            scale_values: Whether V and Q are learned in units of the deviation of their data set's discounted return,
                so that the losses of all environments have one scale (docs/deviations.md, 15). ``beta`` keeps its
                meaning.
            normalize_policy_weights: Whether the policy's weights are divided by their mean over the minibatch of their
                data set, so that the policy losses of all environments have one scale too (docs/deviations.md, 22).
            kwargs: See :meth:`MultiEnvConfigMixin.training`.
        """
        for name in ("train_batch_size", "train_batch_size_per_learner", "minibatch_size", "num_epochs"):
            if name in kwargs:
                raise ValueError(
                    f"training({name}=...) has no meaning here: every update draws training(batch_size=...) "
                    "transitions of each data set."
                )
        super().training(**kwargs)
        if lr is not NotProvided:
            self.actor_lr = self.critic_lr = self.value_lr = self.lr = lr
        self._set_given(
            num_updates_per_iteration=num_updates_per_iteration,
            batch_size=batch_size,
            expectile=expectile,
            beta=beta,
            tau=tau,
            actor_lr=actor_lr,
            critic_lr=critic_lr,
            value_lr=value_lr,
            actor_lr_cosine_updates=actor_lr_cosine_updates,
            reward_normalization=reward_normalization,
            scale_values=scale_values,
            normalize_policy_weights=normalize_policy_weights,
        )
        return self

    # What RLlib and this package read

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments to evaluate on; there may be none."""
        return resolve_env_specs(self.envs) if self.envs else ()

    @property
    def samples_online(self) -> bool:
        """Only evaluation does."""
        return bool(self.in_evaluation)

    @property
    def actor_schedule(self) -> Any:
        """The policy's learning rate, or its schedule over updates."""
        if self.actor_lr_cosine_updates is None:
            return self.actor_lr
        return [
            [
                self.actor_lr_cosine_updates * piece // _COSINE_PIECES,
                0.5 * self.actor_lr * (1.0 + math.cos(math.pi * piece / _COSINE_PIECES)),
            ]
            for piece in range(_COSINE_PIECES + 1)
        ]

    def get_default_learner_class(self) -> type:
        """IQL's learner of this package."""
        from rllib_multienv.algorithms.iql.learner import MultiEnvIQLLearner

        return MultiEnvIQLLearner

    # Checks

    def _space_sources(self) -> Any:
        return self.env_specs, dict(self.datasets), self.data_dir

    def _read_space_specs(self, specs: tuple[EnvSpec, ...]) -> None:
        super()._read_space_specs(specs)
        live = self.space_specs
        unknown = [env_id for env_id in live if env_id not in self.datasets]
        if unknown:
            self._value_error(
                f"environment(envs=...): {unknown[0]!r} has no data set; offline_data(datasets=...) has "
                f"{', '.join(map(repr, self.datasets)) or 'none'}.{did_you_mean(unknown[0], list(self.datasets))} To "
                "try an agent on an environment that it was not trained on, use MultiEnvAgent.evaluate."
            )
        self.space_specs = {env_id: live.get(env_id) or self._spaces_of(env_id) for env_id in self.datasets}

    def _spaces_of(self, env_id: str) -> SpaceSpec:
        return peek_spaces(env_id, self.datasets[env_id], data_dir=self.data_dir)

    def validate(self) -> None:
        """Check all settings, and that the data sets are there; their contents are checked when they are loaded.

        Raises:
            ValueError: Names the setting and what would be right.
            FileNotFoundError: A data set is not there.
        """
        if not self.datasets:
            self._value_error("offline_data(datasets={env_id: source, ...}): no data set was given.")
        head = getattr(self.network_config, "value_head", "scalar")
        if head != "scalar":
            self._value_error(f"value_head={head!r}: V is an expectile here, which bins do not give; set 'scalar'.")
        if not self.in_evaluation:
            for source in self.datasets.values():
                check_source(source, data_dir=self.data_dir)
        super().validate()
        self._validate_env_keys("reference_scores", self.reference_scores)
        for env_id, (low, high) in self.reference_scores.items():
            if not high > low:
                self._value_error(f"reference_scores[{env_id!r}]={low, high}: the expert's must be above the random.")
        self._validate_numbers()
        for env_id in self.space_specs:
            self._validate_per_environment(env_id)
        if self.num_env_runners and not self.in_evaluation:
            self._value_error(
                f"num_env_runners={self.num_env_runners}: nothing is sampled in training; for evaluation set "
                "evaluation(evaluation_num_env_runners=...)."
            )
        if self.evaluation_interval and not self.env_specs:
            self._value_error("evaluation needs environments: environment(envs=[...]), with the ids of the data sets.")
        if self._learner_connector is not None:
            self._value_error("learner_connector: data sets reach the learners without episodes or connectors.")

    def _validate_numbers(self) -> None:
        self._validate_count("num_updates_per_iteration")
        self._validate_count("actor_lr_cosine_updates", optional=True)
        if not 0.0 < self.tau <= 1.0:
            self._value_error(f"tau={self.tau!r}: must be in (0, 1].")
        for name in ("actor_lr", "critic_lr", "value_lr"):
            Scheduler.validate(
                fixed_value_or_schedule=getattr(self, name), setting_name=name, description="learning rate"
            )
        if self.actor_lr_cosine_updates is not None and not isinstance(self.actor_lr, int | float):
            self._value_error("actor_lr is a schedule of its own; actor_lr_cosine_updates is for fixed rates.")

    def _validate_per_environment(self, env_id: str) -> None:
        own = self.get_config_for_module(env_id)
        where = f"environment {env_id!r}: "
        if not 0.0 < own.expectile < 1.0:
            self._value_error(f"{where}expectile={own.expectile!r}: must be in (0, 1).")
        if not own.beta >= 0.0:
            self._value_error(f"{where}beta={own.beta!r}: must not be negative.")
        if not 0.0 <= own.gamma <= 1.0:
            self._value_error(f"{where}gamma={own.gamma!r}: must be in [0, 1].")
        if not (isinstance(own.batch_size, int) and own.batch_size >= max(1, self.num_learners)):
            self._value_error(
                f"{where}batch_size={own.batch_size!r}: must be a whole number, at least one for each learner."
            )
        if own.reward_normalization not in REWARD_NORMALIZATIONS:
            self._value_error(
                f"{where}reward_normalization={own.reward_normalization!r}: must be one of "
                f"{', '.join(map(repr, REWARD_NORMALIZATIONS))}."
            )
