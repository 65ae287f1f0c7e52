"""The offline loop: load data sets, update on minibatches drawn from them, send weights; and its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, LEARNER_UPDATE_TIMER, TIMERS

from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.settings import Converted, Count, PerEnvironment, is_search_space, settings
from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.env_runners import environment_cost
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.evaluation.scores import add_normalized_scores
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners import Minibatch, MultiEnvLearner, describe_shares, share_environments
from rllib_multienv.learners.shares import Shares
from rllib_multienv.learners.training_data import ReplayData
from rllib_multienv.metrics import MODULE_EPISODE_RETURN_MEAN, NUM_STEPS_LIFETIME
from rllib_multienv.normalization import Moments
from rllib_multienv.offline.loading import LoadedDataset, RewardNormalizationName, load_dataset, temporary_store
from rllib_multienv.offline.raw import IN_MEMORY
from rllib_multienv.offline.sources import absolute, check_source, peek_spaces
from rllib_multienv.spec import EnvSpec, resolve_env_specs

logger = logging.getLogger("ray.rllib")


def source_mapping(value: Any) -> dict[str, Any]:
    """Check that data sets are given by env id."""
    if not isinstance(value, Mapping):
        raise ValueError(f"datasets={value!r}: must be a mapping from env ids to data sets.")
    return dict(value)


def absolute_path(value: str | Path | None) -> str | None:
    """An absolute path."""
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


_NO_CONNECTOR = "Data sets reach the learners without episodes or connectors."


class OfflineConfigMixin(MultiEnvConfigMixin):
    """Settings of offline algorithms.

    Environments are needed for evaluation only. A data set whose id is not among them has its own spaces.
    """

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **MultiEnvConfigMixin.NO_EFFECT,
        "learners": {**MultiEnvConfigMixin.NO_EFFECT["learners"], "learner_connector": _NO_CONNECTOR},
        "offline_data": {
            "*": "RLlib's own data path has one data set; set offline_data(datasets={env_id: source, ...})."
        },
        "training": {
            **MultiEnvConfigMixin.NO_EFFECT["training"],
            "learner_connector": _NO_CONNECTOR,
            "minibatch_size num_epochs train_batch_size*": "Every step draws "
            "training(batch_size=...) transitions of each data set.",
        },
    }

    datasets: dict[str, Any]

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.normalize_rewards = False

    @settings
    def offline_data(
        self,
        *,
        datasets: Annotated[Any, Converted(source_mapping)] = {},  # noqa: B006 (copied for each configuration)
        data_dir: Annotated[str | Path | None, Converted(absolute_path)] = None,
        memory_map_dir: Annotated[str | Path | None, Converted(absolute_path)] = None,
        reference_scores: Annotated[Any, Converted(_reference_scores)] = {},  # noqa: B006
        **rllib: Any,
    ) -> None:
        """Set the data sets.

        Args:
            datasets: ``{env_id: source}``. A source is an HDF5 file in D4RL's layout, ``"minari:NAME"``, RLlib episodes
                in Parquet, a folder of any of these, ``"d4rl:NAME"``, a callable that returns arrays (or its
                ``"module:function"``), or a mapping with ``record``
                (see :mod:`rllib_multienv.offline.formats.recorded`).
            data_dir: Folder of the files of ``"d4rl:NAME"``; None: D4RL's cache folder.
            memory_map_dir: A folder on a local disk from which arrays are mapped into memory, for data sets that are
                larger than it. None: arrays are held in memory.
            reference_scores: ``{env_id: (random return, expert return)}`` for normalised scores, where the data set
                has none or others are wanted.
        """
        if not is_search_space(self.datasets):
            self.datasets = {key: absolute(source, data_dir=self.data_dir) for key, source in self.datasets.items()}

    @settings
    def training(
        self,
        *,
        batch_size: PerEnvironment[Count] = 256,
        num_steps_per_iteration: Count = 1000,
        reward_normalization: PerEnvironment[RewardNormalizationName] = "return_range",
        scale_values: bool = True,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            batch_size: Transitions of each data set in a minibatch, over all learners.
            num_steps_per_iteration: Optimiser steps of each iteration.
            reward_normalization: ``"return_range"``: returns of the data set's episodes span 1000 (D4RL's locomotion);
                ``"minus_one"``: one is subtracted (AntMaze); ``"standardize"``; ``"none"``.
            scale_values: Learn values in units of the standard deviation of their data set's discounted return, so that
                the losses of all environments have one scale (docs/deviations.md, 21).
        """

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments to evaluate on; there may be none."""
        return resolve_env_specs(self.envs) if self.envs else ()

    @property
    def samples_online(self) -> bool:
        """Only evaluation does."""
        return bool(self.in_evaluation)

    def _space_sources(self) -> Any:
        return super()._space_sources(), dict(self.datasets), self.data_dir

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
        unmeasured = [env_id for env_id in self.datasets if env_id not in live]
        if unmeasured and self.network_config.needs_measurements:
            self._value_error(
                f"rl_module(model_config=...): descriptions={self.network_config.to_dict()['descriptions']!r} measures "
                f"environments by random actions, and {unmeasured[0]!r} has a data set alone. Name the environment in "
                'environment(envs=...), or use descriptions="auto".'
            )
        self.space_specs = {
            env_id: live.get(env_id) or peek_spaces(env_id, source, data_dir=self.data_dir)
            for env_id, source in self.datasets.items()
        }

    def validate(self) -> None:
        """Check all settings, and that the data sets are there; their contents are checked when they are loaded.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
            FileNotFoundError: A data set is not there.
        """
        if not self.datasets:
            self._value_error("offline_data(datasets={env_id: source, ...}): no data set was given.")
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
        if self.num_env_runners and not self.in_evaluation:
            self._value_error(
                f"num_env_runners={self.num_env_runners}: nothing is sampled in training; for evaluation set "
                "evaluation(evaluation_num_env_runners=...)."
            )
        if self.evaluation_interval and not self.env_specs:
            self._value_error("evaluation needs environments: environment(envs=[...]), with the ids of the data sets.")


@dataclass
class DatasetData(ReplayData):
    """Data sets to draw minibatches from; no experience passes through the driver.

    Attributes:
        datasets: By env id, a :class:`~rllib_multienv.offline.replay.DatasetReplay` or its object-store reference.
            A learner fetches each once and keeps it.
    """

    datasets: Mapping[str, Any] = field(default_factory=dict)

    def part(self, shares: Shares) -> DatasetData:
        """The data sets of these environments."""
        return replace(self, datasets={env_id: self.datasets[env_id] for env_id in shares}, shares=shares)

    def steps(self, learner: MultiEnvLearner, *, num_steps: int = 1, **kwargs: Any) -> Iterator[Minibatch]:
        """``num_steps`` minibatches of transitions drawn at random."""
        for env_id, replay in self.datasets.items():
            if env_id not in learner.replays:
                learner.replays[env_id] = ray.get(replay) if isinstance(replay, ray.ObjectRef) else replay
        return self.draw(
            {env_id: learner.replays[env_id] for env_id in self.datasets},
            num_steps=num_steps,
            seed=learner.shuffle_seed,
            first_step=learner.num_steps,
            keys=learner.env_keys,
            device=learner.device,
        )


def moments_of_known(config: Any) -> dict[str, Moments]:
    """Statistics of observations by which the network that a run starts from knows environments of the run."""
    if config.initial_checkpoint is None:
        return {}
    checkpoint = read_checkpoint(config.initial_checkpoint, weights=False)
    ids = checkpoint.known_among(config.space_specs)
    return {env_id: moments for env_id, moments in checkpoint.obs_moments.items() if env_id in ids}


class OfflineAlgorithm(MultiEnvAlgorithm):
    """One iteration: ``num_steps_per_iteration`` optimiser steps, each on a minibatch of every data set.

    Attributes:
        reference_scores: Returns of a random and of an expert policy by env id, where they are known.
        training_data: What learners draw from.
    """

    def setup(self, config: Any) -> None:
        """Load and check all data sets before anything else is built."""
        loaded = self._load(config)
        self.reference_scores = {
            env_id: scores
            for env_id, dataset in loaded.items()
            if (scores := config.reference_scores.get(env_id, dataset.reference_scores)) is not None
        }
        self._return_moments = {env_id: dataset.return_moments for env_id, dataset in loaded.items()}
        super().setup(config)
        batch_sizes = {env_id: self.config.get_config_for_module(env_id).batch_size for env_id in loaded}
        costs = {e: environment_cost(self.config.space_specs[e], size) for e, size in batch_sizes.items()}
        # Into the object store once, from where each node takes one copy, which its learners share.
        datasets = {
            env_id: ray.put(dataset.replay) if self.config.num_learners else dataset.replay
            for env_id, dataset in loaded.items()
        }
        self.training_data = DatasetData(datasets=datasets, batch_sizes=batch_sizes, costs=costs)
        for piece in self.env_runner.statistics:  # evaluation and checkpoints take them from there
            piece.start_from({env_id: dataset.obs_moments for env_id, dataset in loaded.items()})
        if self.config.num_learners > 1:
            print(describe_shares(share_environments(costs, self.config.num_learners), costs), flush=True)

    def _load(self, config: Any) -> dict[str, LoadedDataset]:
        known = moments_of_known(config)
        limits = {spec.id: episode_limit(spec) for spec in config.env_specs}
        folder, loaded = config.memory_map_dir, {}
        for env_id, source in config.datasets.items():
            own = config.get_config_for_module(env_id)
            loaded[env_id] = load_dataset(
                source,
                config.space_specs[env_id],
                gamma=own.gamma,
                reward_normalization=own.reward_normalization,
                scale_values=config.scale_values,
                normalize_obs=config.normalize_obs,
                obs_moments=known.get(env_id),
                episode_limit=limits.get(env_id),
                data_dir=config.data_dir,
                store=IN_MEMORY if folder is None else temporary_store(folder, env_id, self),
            )
            logger.info("Data set of %r: %d transitions.", env_id, len(loaded[env_id].replay))
        return loaded

    def training_step(self) -> None:
        """Update, and send the weights to the runners that evaluate."""
        steps = self.config.num_steps_per_iteration
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(training_data=self.training_data, num_steps=steps)
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.metrics.log_value(NUM_STEPS_LIFETIME, steps, reduce="lifetime_sum")
        self.send_weights()

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate on live environments, with normalised scores where reference scores are known."""
        results = super().evaluate(parallel_train_future)
        sampled = results.get(ENV_RUNNER_RESULTS, {})
        add_normalized_scores(sampled, sampled.get(MODULE_EPISODE_RETURN_MEAN, {}), self.reference_scores)
        return results

    def _describe(self, state: Mapping[str, np.ndarray]) -> AgentCheckpoint:
        """With the scale that online training would give the rewards."""
        return replace(super()._describe(state), reward_moments=self._return_moments)

    def add_env(self, env: Any, world: str = "") -> str:
        """Not possible: raises a ValueError, because an environment needs a data set."""
        raise self._fixed("add_env")

    def remove_env(self, env_id: str) -> None:
        """Not possible: raises a ValueError."""
        raise self._fixed(f"remove_env({env_id!r})")

    def _fixed(self, call: str) -> ValueError:
        return ValueError(
            f"{call}: {type(self).__name__} learns from the data sets that it was built with. Build another one with "
            "config.offline_data(datasets=...) and config.initialize_from(checkpoint)."
        )
