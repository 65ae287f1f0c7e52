"""Offline training data: references to data sets that learners draw from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from rllib_multienv.learners import Minibatch, MultiEnvLearner
from rllib_multienv.learners.shares import Shares
from rllib_multienv.learners.training_data import ReplayData


@dataclass
class OfflineTrainingData(ReplayData):
    """Data sets to draw minibatches from; no experience moves with it.

    Attributes:
        replays: By env id, a :class:`~rllib_multienv.offline.replay.DatasetReplay` or its object-store reference.
            Learners fetch each once.
    """

    replays: Mapping[str, Any] = field(default_factory=dict)

    def part(self, shares: Shares) -> OfflineTrainingData:
        """The data sets of these environments."""
        return replace(self, replays={env_id: self.replays[env_id] for env_id in shares}, shares=shares)

    def steps(self, learner: MultiEnvLearner, *, num_steps: int = 1, **kwargs: Any) -> Iterator[Minibatch]:
        """``num_steps`` minibatches, each of transitions drawn at random."""
        for env_id, replay in self.replays.items():
            if env_id not in learner.replays:
                learner.replays[env_id] = ray.get(replay) if isinstance(replay, ray.ObjectRef) else replay
        return self.draw(
            {env_id: learner.replays[env_id] for env_id in self.replays},
            num_steps=num_steps,
            seed=learner.shuffle_seed,
            first_step=learner.num_steps,
            keys=learner.env_keys,
            device=learner.device,
        )
