"""The off-policy loop: sample, add to replay stores, update from them, send weights; and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.on_policy import OnlineAlgorithm
from rllib_multienv.algorithms.settings import Count, PerEnvironment, settings
from rllib_multienv.env_runners.sampling import environment_costs
from rllib_multienv.learners import Minibatch, MultiEnvLearner, RolloutData
from rllib_multienv.learners.training_data import ReplayData
from rllib_multienv.offline.replay import GrowingReplay
from rllib_multienv.rollout import TARGETS, Rollout

_NO_CONNECTOR = "Transitions go from rollouts to replay stores without connectors."


class OffPolicyConfigMixin(MultiEnvConfigMixin):
    """Settings of off-policy algorithms."""

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **MultiEnvConfigMixin.NO_EFFECT,
        "learners": {**MultiEnvConfigMixin.NO_EFFECT["learners"], "learner_connector": _NO_CONNECTOR},
        "training": {
            **MultiEnvConfigMixin.NO_EFFECT["training"],
            "learner_connector": _NO_CONNECTOR,
            "num_epochs": "Set training(num_steps_per_iteration=...).",
        },
    }

    @settings
    def training(
        self,
        *,
        batch_size: PerEnvironment[Count] = 256,
        num_steps_per_iteration: Count = 1,
        replay_capacity: Count = 1_000_000,
        min_replay_size: Count = 1000,
        normalize_rewards: bool = False,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            batch_size: Transitions of each environment in a minibatch, over all learners.
            num_steps_per_iteration: Optimiser steps of each iteration.
            replay_capacity: Transitions of each environment that are kept, the newest ones.
            min_replay_size: Transitions that an environment must have before it is trained on.
            normalize_rewards: Whether rewards are divided by the running deviation of their discounted return, as it
                was when they were sampled.
        """

    def validate(self) -> None:
        """Check all settings."""
        super().validate()
        if self.min_replay_size > self.replay_capacity:
            self._value_error(
                f"min_replay_size={self.min_replay_size}: must be at most replay_capacity={self.replay_capacity}; no "
                "environment would ever be trained on."
            )


def transitions(rollout: Rollout) -> dict[str, np.ndarray]:
    """The N valid steps of a rollout as transitions, in time order.

    Returns:
        ``"obs"`` and ``"new_obs"`` [N, ...], ``"actions"``, ``"rewards"`` (divided by the reward scale, float32), and
        ``"terminateds"``, and ``"targets"`` of data sets that are trained supervised. The next observation of an
        episode's last step is its real last one.
    """
    next_obs = np.empty_like(rollout.obs)
    next_obs[:-1] = rollout.obs[1:]
    next_obs.reshape(-1, *rollout.obs.shape[2:])[rollout.final_rows] = rollout.final_obs
    columns = {
        Columns.OBS: rollout.obs,
        Columns.NEXT_OBS: next_obs,
        Columns.ACTIONS: rollout.actions,
        Columns.REWARDS: (rollout.clipped_rewards / rollout.reward_scale).astype(np.float32),
        Columns.TERMINATEDS: rollout.value_ends,
    }
    if TARGETS in rollout.extra:
        columns[TARGETS] = rollout.extra[TARGETS]
    return {key: column[rollout.valid] for key, column in columns.items()}


@dataclass
class OffPolicyData(ReplayData, RolloutData):
    """Fragments that learners add to their replay stores before they draw from these.

    Every learner keeps the stores of the environments that it has a share in. Learners that share an environment get
    the same fragments, so their stores are the same.

    Attributes:
        capacity: Transitions that a store keeps.
        min_size: Transitions that a store must hold before its environment is trained on.
    """

    capacity: int = 1_000_000
    min_size: int = 1

    def steps(self, learner: MultiEnvLearner, *, num_steps: int = 1, **kwargs: Any) -> Iterator[Minibatch]:
        """Add the fragments; then ``num_steps`` minibatches, without environments that have too few transitions."""
        for env_id, rollouts in self.fetch(learner).items():
            store = learner.replays.setdefault(env_id, GrowingReplay(self.capacity))
            assert isinstance(store, GrowingReplay)
            for rollout in rollouts:
                store.add(transitions(rollout))
        for env_id in learner.replays.keys() - set(learner.env_ids):
            del learner.replays[env_id]
        filled = {env_id: store for env_id, store in learner.replays.items() if len(store) >= self.min_size}
        return self.draw(
            {env_id: filled[env_id] for env_id in learner.env_ids if env_id in filled},
            num_steps=num_steps,
            seed=learner.shuffle_seed,
            first_step=learner.num_steps,
            keys=learner.env_keys,
            device=learner.device,
        )


class OffPolicyAlgorithm(OnlineAlgorithm):
    """One iteration: every environment is sampled, its transitions are stored, and steps are taken on stored ones.

    Replay stores are part of checkpoints.
    """

    def training_step(self) -> None:
        """Sample, store, update, send weights."""
        sampled, env_steps = self.sample()
        if not sampled.fragments:
            return  # every runner failed or lost its fragments; RLlib restores runners before the next iteration
        # In the order of the configuration, so that an environment stays with the learners that have its store.
        data = OffPolicyData.of(
            sampled.fragments,
            environment_costs(self.config),
            batch_sizes={e: self.config.get_config_for_module(e).batch_size for e in self.config.space_specs},
            capacity=self.config.replay_capacity,
            min_size=self.config.min_replay_size,
        )
        self.update(data, env_steps, num_steps=self.config.num_steps_per_iteration)

    def _change_environments(self, config: Any) -> None:
        if self.config.num_learners > 1:
            raise ValueError(
                "add_env and remove_env: with several learners environments would move to learners that do not have "
                "their replay stores. Use learners(num_learners=1), or build another algorithm."
            )
        super()._change_environments(config)
