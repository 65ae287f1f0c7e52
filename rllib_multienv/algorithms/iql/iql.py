"""Implicit Q-learning from many data sets at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_multienv.algorithms.iql.config import MultiEnvIQLConfig
from rllib_multienv.algorithms.iql.training_data import OfflineTrainingData
from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm, part_of
from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.env_runners import environment_cost
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.evaluation.scores import add_normalized_scores
from rllib_multienv.learners import describe_shares, share_environments
from rllib_multienv.metrics import MODULE_EPISODE_RETURN_MEAN
from rllib_multienv.normalization import Moments
from rllib_multienv.offline.loading import LoadedDataset, load_dataset, temporary_store
from rllib_multienv.offline.raw import IN_MEMORY
from rllib_multienv.transfer import transferred_state

logger = logging.getLogger("ray.rllib")

NUM_UPDATES_LIFETIME = "num_updates_lifetime"


class MultiEnvIQL(MultiEnvAlgorithm):
    """One iteration: ``num_updates_per_iteration`` updates, each on a minibatch of every data set.

    Attributes:
        reference_scores: Returns of a random and of an expert policy by env id, where they are known.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvIQLConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvIQLConfig()

    def setup(self, config: Any) -> None:
        """Load the data sets, and only when all of them are sound build everything else."""
        loaded = self._load(config)
        self.reference_scores = {
            env_id: scores
            for env_id, dataset in loaded.items()
            if (scores := config.reference_scores.get(env_id, dataset.reference_scores)) is not None
        }
        self._return_moments = {env_id: dataset.return_moments for env_id, dataset in loaded.items()}
        super().setup(config)
        # Into the object store once, from where each node takes one copy, which its learners share.
        self._replays = {
            env_id: ray.put(dataset.replay) if self.config.num_learners else dataset.replay
            for env_id, dataset in loaded.items()
        }
        self._batch_sizes = {
            env_id: self.config.get_config_for_module(env_id).batch_size for env_id in self.config.datasets
        }
        self._costs = {
            env_id: environment_cost(self.config.space_specs[env_id], size)
            for env_id, size in self._batch_sizes.items()
        }
        for piece in self.env_runner.statistics:  # from where evaluation and checkpoints take them
            piece.start_from({env_id: dataset.obs_moments for env_id, dataset in loaded.items()})
        if self.config.num_learners > 1:
            print(describe_shares(share_environments(self._costs, self.config.num_learners), self._costs), flush=True)

    def _load(self, config: Any) -> dict[str, LoadedDataset]:
        known: dict[str, Moments] = {}
        if config.initial_checkpoint is not None:
            # The network knows these environments by the statistics that it was trained with.
            checkpoint = read_checkpoint(config.initial_checkpoint, weights=False)
            ids = checkpoint.known_among(config.space_specs)
            known = {env_id: moments for env_id, moments in checkpoint.obs_moments.items() if env_id in ids}
        limits = {spec.id: episode_limit(spec) for spec in config.env_specs}
        loaded = {}
        for env_id, source in config.datasets.items():
            own = config.get_config_for_module(env_id)
            store = IN_MEMORY
            if config.memory_map_dir is not None:
                store = temporary_store(config.memory_map_dir, env_id, self)
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
                store=store,
            )
            logger.info("Data set of %r: %d transitions.", env_id, len(loaded[env_id].replay))
        return loaded

    def _initial_weights(self, checkpoint: AgentCheckpoint, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Policy and V, and Q if the agent was trained offline too; from an online one, Q begins anew."""
        weights = super()._initial_weights(checkpoint, state)
        if checkpoint.action_values is None:
            return weights
        specs, path = self.config.space_specs, self.config.initial_checkpoint
        own = part_of(state, "action_values")
        for name, tensor in transferred_state(checkpoint, own, specs, path, part="action_values").items():
            weights[f"action_values.{name}"] = weights[f"targets.{name}"] = tensor.numpy()
        return weights

    def _describe(self, state: Mapping[str, np.ndarray]) -> AgentCheckpoint:
        """With Q, and with the scale that PPO would give the rewards."""
        return replace(
            super()._describe(state),
            action_values=part_of(state, "action_values"),
            reward_moments=self._return_moments,
        )

    def training_data(self) -> OfflineTrainingData:
        """What learners draw from."""
        return OfflineTrainingData(replays=self._replays, batch_sizes=self._batch_sizes, costs=self._costs)

    def training_step(self) -> None:
        """Update on minibatches that the learners draw; no experience passes through the driver."""
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=self.training_data(),
                num_steps=self.config.num_updates_per_iteration,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.metrics.log_value(NUM_UPDATES_LIFETIME, self.config.num_updates_per_iteration, reduce="lifetime_sum")
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate on live environments, with normalised scores where reference scores are known."""
        results = super().evaluate(parallel_train_future)
        sampled = results.get(ENV_RUNNER_RESULTS, {})
        add_normalized_scores(sampled, sampled.get(MODULE_EPISODE_RETURN_MEAN, {}), self.reference_scores)
        return results

    def add_env(self, env: Any) -> str:
        """There is no way yet.

        Raises:
            ValueError: Always: an environment comes with a data set.
        """
        raise ValueError(
            "add_env: MultiEnvIQL learns from the data sets that it was built with. Build another one with "
            "config.offline_data(datasets=...) and config.initialize_from(checkpoint)."
        )

    def remove_env(self, env_id: str) -> None:
        """There is no way yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"remove_env({env_id!r}): MultiEnvIQL learns from the data sets that it was built with. Build another one "
            "with config.offline_data(datasets=...) and config.initialize_from(checkpoint)."
        )
