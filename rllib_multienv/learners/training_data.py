"""What the driver hands to the learner group: references to fragments, by environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.rllib.core.learner.training_data import TrainingData

from rllib_multienv.env_runners.assignment import assign_environments

#: A fragment: a list of episode chunks, or the object-store reference of one.
Fragment = Any


@dataclass
class MultiEnvTrainingData(TrainingData):
    """Fragments of each environment; the driver sees references only.

    Attributes:
        fragments: ``{env_id: [fragment, ...]}``, one fragment for each runner that owns the environment.
        costs: What each environment costs a learner, to balance them.
    """

    fragments: Mapping[str, Sequence[Fragment]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)

    def validate(self) -> None:
        """There is nothing that could be wrong: an environment without fragments is not trained on this time."""

    def shard(
        self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any
    ) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Give every environment's fragments to the one learner that owns the environment (DD-PPO's locality)."""
        owned = assign_environments(self.costs, num_shards)
        return [
            (MultiEnvTrainingData(fragments={e: self.fragments[e] for e in ids if e in self.fragments}), {})
            for ids in owned
        ]

    def solve_refs(self) -> None:
        """Fetch the chunks behind the references, in a fixed order."""
        self.episodes = []
        for fragments in self.fragments.values():
            for fragment in fragments:
                self.episodes += ray.get(fragment) if isinstance(fragment, ray.ObjectRef) else fragment
