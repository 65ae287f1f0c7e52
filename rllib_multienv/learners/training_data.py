"""What the driver hands to the learners: references to fragments, and who trains on which part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ObjectLostError
from ray.rllib.core.learner.training_data import TrainingData

from rllib_multienv.learners.shares import Share, Shares, share_environments


@dataclass(frozen=True, kw_only=True)
class SampledFragment:
    """What one runner sampled of one environment in one round.

    Attributes:
        chunks: A list of episode chunks, or the object-store reference of one.
        steps: Steps of experience in it.
        number: Its place among all fragments of the update.
    """

    chunks: Any
    steps: int
    number: int


@dataclass
class MultiEnvTrainingData(TrainingData):
    """Fragments of each environment; the driver sees references only.

    Attributes:
        fragments: ``{env_id: [fragment, ...]}``, one fragment for each runner that owns the environment.
        costs: What each environment costs a learner, to balance them.
        shares: The part of each environment that this learner trains on; all of each where not given.
        num_fragments: Fragments of the whole update, over all learners.
        lost: After :meth:`solve_refs`, the numbers of the fragments that could not be fetched.
    """

    fragments: Mapping[str, Sequence[SampledFragment]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)
    num_fragments: int = 0
    lost: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, sampled: Mapping[str, Sequence[tuple[Any, int]]], costs: Mapping[str, float] | None = None
    ) -> MultiEnvTrainingData:
        """From ``{env_id: [(chunks or reference, steps), ...]}``, numbering the fragments."""
        fragments: dict[str, list[SampledFragment]] = {}
        number = 0
        for env_id, found in sampled.items():
            fragments[env_id] = []
            for chunks, steps in found:
                fragments[env_id].append(SampledFragment(chunks=chunks, steps=steps, number=number))
                number += 1
        return cls(fragments=fragments, costs=dict(costs or {}), num_fragments=number)

    def validate(self) -> None:
        """There is nothing that could be wrong: an environment without fragments is not trained on this time."""

    def shard(
        self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any
    ) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Give every learner the fragments of the environments that it has a share in.

        Learners that share an environment get the same fragments, compute the same advantages of all of them, and then
        each trains on its own rows of every minibatch: so the gradient does not depend on the number of learners.
        """
        return [
            (
                MultiEnvTrainingData(
                    fragments={env_id: self.fragments[env_id] for env_id in shares if env_id in self.fragments},
                    shares=shares,
                    num_fragments=self.num_fragments,
                ),
                {},
            )
            for shares in share_environments(self.costs, num_shards)
        ]

    def share(self, env_id: str) -> Share:
        """The part of ``env_id`` that this learner trains on."""
        return self.shares.get(env_id, Share())

    def solve_refs(self) -> None:
        """Fetch the chunks behind the references; those on a node that is gone are noted as lost."""
        found: dict[str, list[SampledFragment]] = {}
        lost = set()
        for env_id, fragments in self.fragments.items():
            found[env_id] = []
            for fragment in fragments:
                chunks = fragment.chunks
                if isinstance(chunks, ray.ObjectRef):
                    try:
                        chunks = ray.get(chunks)
                    except ObjectLostError:
                        lost.add(fragment.number)
                        chunks = []
                found[env_id].append(SampledFragment(chunks=chunks, steps=fragment.steps, number=fragment.number))
        self.fragments = found
        self.lost = frozenset(lost)

    def drop(self, lost: frozenset[int]) -> dict[str, int]:
        """Leave out the fragments with these numbers; returns the steps that are lost with them, by environment."""
        dropped = {
            env_id: sum(fragment.steps for fragment in fragments if fragment.number in lost)
            for env_id, fragments in self.fragments.items()
        }
        self.fragments = {
            env_id: [fragment for fragment in fragments if fragment.number not in lost]
            for env_id, fragments in self.fragments.items()
        }
        return {env_id: steps for env_id, steps in dropped.items() if steps}

    def episode_chunks(self) -> list[Any]:
        """All chunks, in a fixed order."""
        return [chunk for fragments in self.fragments.values() for fragment in fragments for chunk in fragment.chunks]
