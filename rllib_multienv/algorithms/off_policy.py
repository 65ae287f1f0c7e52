"""The off-policy loop: sample, add to replay stores, update from them, send weights; and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import ray
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_MODULE_STEPS_SAMPLED_LIFETIME

from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.offline import absolute_path, moments_of_known, source_mapping
from rllib_multienv.algorithms.on_policy import OnlineAlgorithm
from rllib_multienv.algorithms.settings import (
    Converted,
    Count,
    CountOrZero,
    PerEnvironment,
    Positive,
    is_search_space,
    settings,
)
from rllib_multienv.connectors import RandomActions, RewardScale, SampleActions
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.learners import Minibatch, MultiEnvLearner, RolloutData
from rllib_multienv.learners.shares import Shares
from rllib_multienv.learners.training_data import ReplayData
from rllib_multienv.offline.loading import load_dataset
from rllib_multienv.offline.replay import DatasetReplay, GrowingReplay
from rllib_multienv.offline.sources import absolute, check_source
from rllib_multienv.rollout import TARGETS, Rollout

_NO_CONNECTOR = "Transitions go from rollouts to replay stores without connectors."

#: Column of what the value after a transition is multiplied by, with returns of several steps.
DISCOUNTS = "discounts"
_BLOCK_ROWS = 65_536


class OffPolicyConfigMixin(MultiEnvConfigMixin):
    """Settings of off-policy algorithms."""

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **MultiEnvConfigMixin.NO_EFFECT,
        "learners": {**MultiEnvConfigMixin.NO_EFFECT["learners"], "learner_connector": _NO_CONNECTOR},
        "offline_data": {"*": "Replay stores are filled from offline_data(datasets={env_id: source, ...})."},
        "training": {
            **MultiEnvConfigMixin.NO_EFFECT["training"],
            "learner_connector": _NO_CONNECTOR,
            "num_epochs": "Set training(update_to_data_ratio=...).",
            "minibatch_size train_batch_size*": "Every step draws training(batch_size=...) transitions of each "
            "environment's replay store.",
        },
    }

    datasets: dict[str, Any]

    @settings
    def env_runners(
        self, *, num_envs_per_env_runner: Count = 1, rollout_fragment_length: Count | Literal["auto"] = 64, **rllib: Any
    ) -> None:
        """Set how to sample."""

    @settings
    def training(
        self,
        *,
        batch_size: PerEnvironment[Count] = 256,
        batch_sizes_by: Literal["setting", "steps"] = "setting",
        update_to_data_ratio: Positive = 1.0,
        n_step: PerEnvironment[Count] = 1,
        replay_capacity: Count = 1_000_000,
        min_replay_size: Count = 1000,
        num_random_steps: PerEnvironment[CountOrZero] = 0,
        normalize_rewards: bool = False,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            batch_size: Transitions of each environment in a minibatch, over all learners.
            batch_sizes_by: ``"steps"``: the rows of a minibatch, as many as ``batch_size`` of all environments
                together, are shared out in proportion to the steps sampled of each so far.
            update_to_data_ratio: Optimiser steps, each on a minibatch of every environment, for each step of the
                average environment. An iteration takes a whole number of them, at least one.
            n_step: Rewards of so many steps are summed before the value of the state after them. At the end of a
                fragment there may be fewer.
            replay_capacity: Transitions of each environment that are kept, the newest ones.
            min_replay_size: Transitions that an environment must have before it is trained on.
            num_random_steps: First steps of each environment, over all runners, in which actions are drawn uniformly
                from the action space.
            normalize_rewards: Whether rewards are divided by the running deviation of their discounted return.
        """

    @settings
    def offline_data(
        self,
        *,
        datasets: Annotated[Any, Converted(source_mapping)] = {},  # noqa: B006 (copied for each configuration)
        data_dir: Annotated[str | Path | None, Converted(absolute_path)] = None,
        **rllib: Any,
    ) -> None:
        """Set data sets that replay stores begin with (warm start).

        Args:
            datasets: ``{env_id: source}`` for some environments; sources as in `OfflineConfigMixin.offline_data`.
            data_dir: Folder of the files of ``"d4rl:NAME"``; None: D4RL's cache folder.
        """
        if not is_search_space(self.datasets):
            self.datasets = {key: absolute(source, data_dir=self.data_dir) for key, source in self.datasets.items()}

    def validate(self) -> None:
        """Check all settings."""
        super().validate()
        if self.min_replay_size > self.replay_capacity:
            self._value_error(
                f"min_replay_size={self.min_replay_size}: must be at most replay_capacity={self.replay_capacity}; no "
                "environment would ever be trained on."
            )
        self.validate_env_ids("datasets", self.datasets, self.space_specs)
        for env_id, source in self.datasets.items() if not self.in_evaluation else ():
            check_source(source, data_dir=self.data_dir)
            if self.get_config_for_module(env_id).n_step > 1:
                self._value_error(f"Environment {env_id!r}: n_step must be 1 where a data set fills its replay store.")

    def build_module_to_env_connector(
        self, env: Any = None, spaces: Any = None, *, seed: int | None = None, device: Any = None
    ) -> ConnectorV2:
        """With random actions at first, in training."""
        pipeline = super().build_module_to_env_connector(env, spaces, seed=seed, device=device)
        runners = max(1, self.num_env_runners)
        # With more runners than environments, several own one.
        owners = max(1, runners // max(1, len(self.space_specs)))
        counts = {e: -(-self.get_config_for_module(e).num_random_steps // owners) for e in self.space_specs}
        if any(counts.values()) and not self.in_evaluation:
            piece = RandomActions(space_specs=self.space_specs, num_steps=counts, seed=seed)
            pipeline.insert_before(SampleActions, piece)
        return pipeline


def transitions(rollout: Rollout, *, n_step: int = 1, gamma: float = 1.0) -> dict[str, np.ndarray]:
    """The N valid steps of a rollout as transitions, in time order.

    Args:
        rollout: The rollout.
        n_step: Rewards of up to so many steps are summed, as long as the episode and the rollout last.
        gamma: Discount factor of these.

    Returns:
        ``"obs"`` and ``"new_obs"`` [N, ...], ``"actions"``, ``"rewards"`` (not divided by the reward scale, float32),
        ``"terminateds"``, and ``"targets"`` of data sets that are trained supervised. The next observation of an
        episode's last step is its real last one. With several steps also ``"discounts"``, the power of gamma that
        belongs to the value after them.
    """
    next_obs = np.empty_like(rollout.obs)
    next_obs[:-1] = rollout.obs[1:]
    next_obs.reshape(-1, *rollout.obs.shape[2:])[rollout.final_rows] = rollout.final_obs
    columns = {
        Columns.OBS: rollout.obs,
        Columns.NEXT_OBS: next_obs,
        Columns.ACTIONS: rollout.actions,
        Columns.REWARDS: rollout.clipped_rewards.astype(np.float32),
        Columns.TERMINATEDS: rollout.value_ends,
    }
    if n_step > 1:
        columns |= _summed(rollout, columns, n_step, gamma)
    if TARGETS in rollout.extra:
        columns[TARGETS] = rollout.extra[TARGETS]
    return {key: column[rollout.valid] for key, column in columns.items()}


def _summed(rollout: Rollout, columns: Mapping[str, np.ndarray], n_step: int, gamma: float) -> dict[str, np.ndarray]:
    """Returns of several steps: the columns that change, [T, B, ...]."""
    length, num_envs = rollout.valid.shape
    rewards = columns[Columns.REWARDS].copy()
    steps = np.ones((length, num_envs), np.int64)  # that a return has so far
    goes_on = np.ones((length, num_envs), bool)
    ends = rollout.done | rollout.value_ends
    for k in range(1, min(n_step, length)):
        goes_on = goes_on[:-1] & ~ends[k - 1 : -1] & rollout.valid[k:]  # [T - k, B]
        rewards[:-k] += np.where(goes_on, gamma**k * columns[Columns.REWARDS][k:], 0.0)
        steps[:-k] += goes_on
    last = np.arange(length)[:, None] + steps - 1, np.arange(num_envs)
    return {
        Columns.REWARDS: rewards,
        Columns.NEXT_OBS: columns[Columns.NEXT_OBS][last],
        Columns.TERMINATEDS: columns[Columns.TERMINATEDS][last],
        DISCOUNTS: (gamma**steps).astype(np.float32),
    }


@dataclass
class OffPolicyData(ReplayData, RolloutData):
    """Fragments that learners add to their replay stores before they draw from these.

    Every learner keeps the stores of the environments that it has a share in. Learners that share an environment get
    the same fragments, so their stores are the same.

    Attributes:
        capacity: Transitions that a store keeps.
        min_size: Transitions that a store must hold before its environment is trained on.
        datasets: By env id, what a new store begins with: a :class:`~rllib_multienv.offline.replay.DatasetReplay` or
            its object-store reference.
    """

    capacity: int = 1_000_000
    min_size: int = 1
    datasets: Mapping[str, Any] = field(default_factory=dict)

    def part(self, shares: Shares) -> OffPolicyData:
        """The fragments and data sets of these environments."""
        part = super().part(shares)
        assert isinstance(part, OffPolicyData)
        return replace(part, datasets={env_id: data for env_id, data in self.datasets.items() if env_id in shares})

    def steps(self, learner: MultiEnvLearner, *, num_steps: int = 1, **kwargs: Any) -> Iterator[Minibatch]:
        """Add the fragments; then ``num_steps`` minibatches, without environments that have too few transitions.

        No step is taken as long as no learner has an environment with enough.
        """
        for env_id, dataset in self.datasets.items():
            self._fill(
                self._store(learner, env_id), ray.get(dataset) if isinstance(dataset, ray.ObjectRef) else dataset
            )
        for env_id, rollouts in self.fetch(learner).items():
            self.add(self._store(learner, env_id), rollouts, learner.config.get_config_for_module(env_id))
        for env_id in learner.replays.keys() - set(learner.env_ids):
            del learner.replays[env_id]
        filled = {env_id: store for env_id, store in learner.replays.items() if len(store) >= self.min_size}
        any_filled = torch.tensor(len(filled), device=learner.device)
        learner.reduction.maximum(any_filled)
        return self.draw(
            {env_id: filled[env_id] for env_id in learner.env_ids if env_id in filled},
            num_steps=num_steps if any_filled else 0,
            seed=learner.shuffle_seed,
            first_step=learner.num_steps,
            keys=learner.env_keys,
            device=learner.device,
        )

    def add(self, store: GrowingReplay, rollouts: Sequence[Rollout], config: Any) -> None:
        """Add the fragments of an environment to its store; ``config`` has that environment's overrides."""
        for rollout in rollouts:
            store.add(transitions(rollout, n_step=config.n_step, gamma=config.gamma), rollout.obs_moments)
            store.reward_scale, store.obs_moments = rollout.reward_scale, rollout.obs_moments

    def _fill(self, store: GrowingReplay, dataset: DatasetReplay) -> None:
        """Add the newest transitions of a data set, as many as the store keeps."""
        rows, raw = dataset.transitions.usable[-self.capacity :], replace(dataset, obs_moments=None)
        for start in range(0, len(rows), _BLOCK_ROWS):
            store.add(raw.columns(rows[start : start + _BLOCK_ROWS]))
        store.obs_moments = dataset.obs_moments

    def _store(self, learner: MultiEnvLearner, env_id: str) -> GrowingReplay:
        store = learner.replays.setdefault(env_id, learner.new_replay(env_id, self.capacity))
        assert isinstance(store, GrowingReplay)
        return store


class OffPolicyAlgorithm(OnlineAlgorithm):
    """One iteration: every environment is sampled, its transitions are stored, and steps are taken on stored ones.

    Replay stores are part of checkpoints.
    """

    data_class: ClassVar[type[OffPolicyData]] = OffPolicyData

    def setup(self, config: Any) -> None:
        """Build everything, and load the data sets that replay stores begin with."""
        known = moments_of_known(config) if config.datasets else {}
        limits = {spec.id: episode_limit(spec) for spec in config.env_specs if spec.id in config.datasets}
        self._loaded = {
            env_id: load_dataset(
                source,
                config.space_specs[env_id],
                gamma=config.get_config_for_module(env_id).gamma,
                reward_normalization="none",
                scale_values=False,
                normalize_obs=config.normalize_obs,
                obs_moments=known.get(env_id),
                episode_limit=limits[env_id],
                data_dir=config.data_dir,
            )
            for env_id, source in config.datasets.items()
        }
        super().setup(config)
        new = {env_id: data for env_id, data in self._loaded.items() if env_id not in known}
        if new:
            for piece in self.env_runner.statistics:
                is_reward = isinstance(piece, RewardScale)
                piece.start_from({e: d.return_moments if is_reward else d.obs_moments for e, d in new.items()})
            self._send_to_runners()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state, which has the replay stores."""
        super().set_state(state)
        self._loaded = {}

    def training_step(self) -> None:
        """Sample, store, update, send weights."""
        sampled, env_steps = self.sample()
        if not sampled.fragments:
            return  # every runner failed or lost its fragments; RLlib restores runners before the next iteration
        steps = sum(number for fragments in sampled.fragments.values() for _, number in fragments)
        # In the order of the configuration, so that an environment stays with the learners that have its store.
        data = self.data_class.of(
            sampled.fragments,
            environment_costs(self.config),
            batch_sizes=self._batch_sizes(),
            noise_sizes=self.noise_sizes(),
            capacity=self.config.replay_capacity,
            min_size=self.config.min_replay_size,
            datasets=self._datasets(),
        )
        num_steps = round(self.config.update_to_data_ratio * steps / len(self.config.space_specs))
        self.update(data, env_steps, num_steps=max(1, num_steps))

    def noise_sizes(self) -> dict[str, int]:
        """Random numbers that a loss needs for each transition, by env id (see `ReplayData.noise_sizes`)."""
        return {}

    def _datasets(self) -> dict[str, Any]:
        """The data sets of environments whose stores are new."""
        loaded, self._loaded = self._loaded, {}
        put = self.config.num_learners > 0
        return {env_id: ray.put(data.replay) if put else data.replay for env_id, data in loaded.items()}

    def _batch_sizes(self) -> dict[str, int]:
        sizes = {e: self.config.get_config_for_module(e).batch_size for e in self.config.space_specs}
        if self.config.batch_sizes_by == "setting":
            return sizes
        steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_MODULE_STEPS_SAMPLED_LIFETIME), default={})
        own = {env_id: float(steps.get(env_id, 0)) for env_id in sizes}
        share = sum(sizes.values()) / max(1.0, sum(own.values()))
        least = max(1, self.config.num_learners)
        return {env_id: max(least, round(share * number)) for env_id, number in own.items()}

    def _change_environments(self, config: Any) -> None:
        if self.config.num_learners > 1:
            raise ValueError(
                "add_env and remove_env: with several learners environments would move to learners that do not have "
                "their replay stores. Use learners(num_learners=1), or build another algorithm."
            )
        super()._change_environments(config)
