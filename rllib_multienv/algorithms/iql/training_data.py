"""What the driver hands to the learners: references to data sets, and who trains on which part of each minibatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray.rllib.core.learner.training_data import TrainingData

from rllib_multienv.learners.shares import Share, Shares, share_environments


@dataclass
class OfflineTrainingData(TrainingData):
    """Data sets to draw minibatches from; no experience moves with it.

    Attributes:
        replays: By env id, a :class:`~rllib_multienv.offline.replay.DatasetReplay` or its object-store reference.
        batch_sizes: Transitions of each environment in a minibatch, over all learners.
        costs: What each environment costs a learner, to balance them.
        shares: The part of each minibatch that this learner takes; all of it where not given.
    """

    replays: Mapping[str, Any] = field(default_factory=dict)
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)

    def validate(self) -> None:
        """There is nothing that could be wrong."""

    def shard(
        self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any
    ) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Give every learner the data sets that it has a share in.

        Learners that share a data set draw the same minibatches of it, and each takes its own rows: so the gradient
        does not depend on the number of learners.
        """
        return [
            (replace(self, replays={env_id: self.replays[env_id] for env_id in shares}, shares=shares), {})
            for shares in share_environments(self.costs, num_shards)
        ]

    def share(self, env_id: str) -> Share:
        """The part of ``env_id`` that this learner trains on."""
        return self.shares.get(env_id, Share())
