"""IQL's settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_multienv.algorithms.iql.module import IQLSharedModule
from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.settings import (
    Converted,
    Count,
    LearningRate,
    NonNegative,
    OpenFraction,
    PerEnvironment,
    PositiveFraction,
    Schedule,
    is_schedule,
    is_search_space,
    settings,
)
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.loading import RewardNormalizationName
from rllib_multienv.offline.sources import absolute, check_source, peek_spaces
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs

#: Straight pieces that a cosine is drawn with.
_COSINE_PIECES = 64

_NO_CONNECTOR = "Data sets reach the learners without episodes or connectors."


def _datasets(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"datasets={value!r}: must be a mapping from env ids to data sets.")
    return dict(value)


def _absolute(value: str | Path | None) -> str | None:
    return None if value is None else str(Path(value).expanduser().absolute())


def _reference_scores(value: Any) -> dict[str, tuple[float, float]]:
    try:
        scores = {env_id: (float(low), float(high)) for env_id, (low, high) in dict(value).items()}
    except (TypeError, ValueError):
        raise ValueError(
            f"reference_scores={value!r}: must be a mapping from env ids to (random return, expert return)."
        ) from None
    for env_id, (low, high) in scores.items():
        if not high > low:
            raise ValueError(f"reference_scores[{env_id!r}]={low, high}: the expert's must be above the random.")
    return scores


class MultiEnvIQLConfig(MultiEnvConfigMixin, AlgorithmConfig):
    """Configuration of :class:`~rllib_multienv.algorithms.iql.iql.MultiEnvIQL`.

    Environments are needed for evaluation alone: a data set whose id is not among them has the spaces that it says
    itself. Each update draws ``batch_size`` transitions of every data set. Names are those of RLlib's IQL ("critic" is
    Q, "value" is V); defaults are the paper's (Table 2c).
    """

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **MultiEnvConfigMixin.NO_EFFECT,
        "learners": {
            **MultiEnvConfigMixin.NO_EFFECT["learners"],
            "learner_connector": _NO_CONNECTOR,
        },
        "offline_data": {
            "*": "RLlib's own data path has one data set; set offline_data(datasets={env_id: source, ...})."
        },
        "training": {
            **MultiEnvConfigMixin.NO_EFFECT["training"],
            "learner_connector": _NO_CONNECTOR,
            "minibatch_size num_epochs train_batch_size train_batch_size_per_learner": "Every update draws "
            "training(batch_size=...) transitions of each data set.",
        },
    }

    shared_module_class = IQLSharedModule
    datasets: dict[str, Any]

    def __init__(self, algo_class: type | None = None) -> None:
        if algo_class is None:
            from rllib_multienv.algorithms.iql.iql import MultiEnvIQL

            algo_class = MultiEnvIQL
        super().__init__(algo_class=algo_class)
        self.normalize_rewards = False

    # Settings

    @settings
    def offline_data(
        self,
        *,
        datasets: Annotated[Any, Converted(_datasets)] = {},  # noqa: B006 (copied for each configuration)
        data_dir: Annotated[str | Path | None, Converted(_absolute)] = None,
        memory_map_dir: Annotated[str | Path | None, Converted(_absolute)] = None,
        reference_scores: Annotated[Any, Converted(_reference_scores)] = {},  # noqa: B006
        **rllib: Any,
    ) -> None:
        """Set the data sets.

        Args:
            datasets: ``{env_id: source}``. A source is an HDF5 file in D4RL's layout, ``"minari:NAME"``, RLlib episodes
                in Parquet, a folder of any of these, ``"d4rl:NAME"``, a callable that returns arrays (or its
                ``"module:function"``), or a mapping with ``record``
                (see :mod:`rllib_multienv.offline.formats.recorded`).
            data_dir: Where files of ``"d4rl:NAME"`` are; None: D4RL's cache folder.
            memory_map_dir: A folder on a local disk where arrays are laid out and mapped into memory, for data sets
                that are larger than it. None: arrays are held in memory.
            reference_scores: ``{env_id: (random return, expert return)}`` for normalised scores, where the data set
                does not say or others are wanted.
        """
        if not is_search_space(self.datasets):
            self.datasets = {key: absolute(source, data_dir=self.data_dir) for key, source in self.datasets.items()}

    @settings
    def training(
        self,
        *,
        num_updates_per_iteration: Count = 1000,
        batch_size: PerEnvironment[Count] = 256,
        expectile: PerEnvironment[OpenFraction] = 0.7,
        beta: PerEnvironment[NonNegative] = 3.0,
        tau: PositiveFraction = 0.005,
        actor_lr: LearningRate | None = None,
        critic_lr: LearningRate | None = None,
        value_lr: LearningRate | None = None,
        actor_lr_cosine_updates: Count | None = None,
        reward_normalization: PerEnvironment[RewardNormalizationName] = "return_range",
        scale_values: bool = True,
        normalize_policy_weights: bool = True,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            num_updates_per_iteration: Optimiser steps between two results.
            batch_size: Transitions of each data set in a step.
            expectile: Expectile of Q over the data's actions that V estimates.
            beta: Inverse temperature: the policy's weights are ``exp(beta * advantage)``, at most 100, with advantages
                in units of normalised rewards. Larger is greedier.
            tau: Share by which the target networks move in each step.
            actor_lr: Learning rate of the policy; None: ``lr``, and 3e-4 where that is None too. Schedules
                ``[[update, rate], ...]`` are over updates.
            critic_lr: Learning rate of Q; None: as for ``actor_lr``.
            value_lr: Learning rate of V; None: as for ``actor_lr``.
            actor_lr_cosine_updates: The policy's learning rate falls to zero over so many updates, along a cosine.
            reward_normalization: ``"return_range"``: returns of the data set's episodes span 1000 (D4RL's locomotion);
                ``"minus_one"``: one is subtracted (AntMaze); ``"standardize"``; ``"none"``.
            scale_values: Whether V and Q are learned in units of the deviation of their data set's discounted return,
                so that the losses of all environments have one scale (docs/deviations.md, 15). ``beta`` keeps its
                meaning.
            normalize_policy_weights: Whether the policy's weights are divided by their mean over the minibatch of their
                data set, so that the policy losses of all environments have one scale too (docs/deviations.md, 22).
        """

    def learning_rates(self) -> dict[str, float | Schedule]:
        """Rate (or schedule over updates) of each group of parameters: ``actor``, ``critic`` (Q) and ``value``."""
        rates: dict[str, Any] = {}
        for name in ("actor", "critic", "value"):
            own = getattr(self, f"{name}_lr")
            rates[name] = next(rate for rate in (own, self.lr, 3e-4) if rate is not None)
        if self.actor_lr_cosine_updates is not None:
            rates["actor"] = [
                [
                    self.actor_lr_cosine_updates * piece // _COSINE_PIECES,
                    0.5 * rates["actor"] * (1.0 + math.cos(math.pi * piece / _COSINE_PIECES)),
                ]
                for piece in range(_COSINE_PIECES + 1)
            ]
        return rates

    # What RLlib and this package read

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments to evaluate on; there may be none."""
        return resolve_env_specs(self.envs) if self.envs else ()

    @property
    def samples_online(self) -> bool:
        """Only evaluation does."""
        return bool(self.in_evaluation)

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
            ValueError: Names the setting, its value, and what would be right.
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
        self.validate_env_ids("reference_scores", self.reference_scores, self.space_specs)
        for env_id in self.space_specs:
            size = self.get_config_for_module(env_id).batch_size
            if size < self.num_learners:
                self._value_error(
                    f"Environment {env_id!r}: batch_size={size}: must be at least one for each of {self.num_learners} "
                    "learners."
                )
        if self.actor_lr_cosine_updates is not None:
            for name in ("lr", "actor_lr"):
                if is_schedule(getattr(self, name)):
                    self._value_error(f"{name} is a schedule; actor_lr_cosine_updates is for fixed rates.")
        if self.num_env_runners and not self.in_evaluation:
            self._value_error(
                f"num_env_runners={self.num_env_runners}: nothing is sampled in training; for evaluation set "
                "evaluation(evaluation_num_env_runners=...)."
            )
        if self.evaluation_interval and not self.env_specs:
            self._value_error("evaluation needs environments: environment(envs=[...]), with the ids of the data sets.")
