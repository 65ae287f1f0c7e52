"""Training data: references to what learners train on, and each learner's share."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import ray
import torch
from ray.exceptions import ObjectLostError
from ray.rllib.core.learner.training_data import TrainingData

from rllib_multienv.learners.minibatches import Minibatch, Shuffle, minibatches
from rllib_multienv.learners.shares import Share, Shares, share_environments
from rllib_multienv.metrics import NUM_ENV_STEPS_LOST_LIFETIME, NUM_FRAGMENTS_LOST_LIFETIME
from rllib_multienv.offline.replay import Replay, draw_generator
from rllib_multienv.rollout import Rollout

logger = logging.getLogger("ray.rllib")

#: Column of standard normal numbers ``[n, width]``, see :class:`ReplayData`.
NOISE = "noise"
#: Rows of one store that are drawn at a time, at most: they stay in the processor's cache, and a gather of many rows
#: costs hardly more than one of few.
_BLOCK_ROWS = 8192


@dataclass
class SharedTrainingData(TrainingData):
    """What the driver hands to learners, by environment.

    Learners that share an environment get the same data of it and compute the same minibatches; each takes its own
    rows of them. So the gradient does not depend on the number of learners.

    Attributes:
        costs: What each environment costs a learner, to balance them.
        shares: The part of each environment that this learner trains on; all of each where not given.
        groups: `EnvSpec.group` of the environments that are in worlds: learners have the same part of all of a world.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    shares: Shares = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    def validate(self) -> None:
        """There is nothing that could be wrong: an environment without data is not trained on this time."""

    def shard(
        self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any
    ) -> list[tuple[TrainingData, dict[str, Any]]]:
        """For each learner the data of the environments that it has a share in."""
        return [(self.part(shares), {}) for shares in share_environments(self.costs, num_shards, self.groups)]

    @abstractmethod
    def part(self, shares: Shares) -> SharedTrainingData:
        """This, with the data of these environments alone."""

    @abstractmethod
    def steps(self, learner: Any, **kwargs: Any) -> Iterator[Minibatch]:
        """The minibatches of one update; the same number on all learners, whatever data they have."""

    def share(self, env_id: str) -> Share:
        """The part of ``env_id`` that this learner trains on."""
        return self.shares.get(env_id, Share())


@dataclass(frozen=True, kw_only=True)
class SampledFragment:
    """What one runner sampled of one environment in one round.

    Attributes:
        rollout: A :class:`~rllib_multienv.rollout.Rollout`, or its object-store reference.
        steps: Steps of experience in it.
        number: Its place among all fragments of the update.
    """

    rollout: Any
    steps: int
    number: int


@dataclass
class RolloutData(SharedTrainingData):
    """Fragments of each environment, for on-policy learning; the driver sees references only.

    Attributes:
        fragments: ``{env_id: [fragment, ...]}``, one fragment for each runner that owns the environment.
        num_fragments: Fragments of the whole update, over all learners.
    """

    fragments: Mapping[str, Sequence[SampledFragment]] = field(default_factory=dict)
    num_fragments: int = 0

    @classmethod
    def of(
        cls,
        sampled: Mapping[str, Sequence[tuple[Any, int]]],
        costs: Mapping[str, float] | None = None,
        **fields: Any,
    ) -> Self:
        """From ``{env_id: [(rollout or reference, steps), ...]}``, numbering the fragments; ``fields`` are others."""
        fragments: dict[str, list[SampledFragment]] = {}
        number = 0
        for env_id, found in sampled.items():
            fragments[env_id] = []
            for rollout, steps in found:
                fragments[env_id].append(SampledFragment(rollout=rollout, steps=steps, number=number))
                number += 1
        return cls(fragments=fragments, costs=dict(costs or {}), num_fragments=number, **fields)

    def part(self, shares: Shares) -> RolloutData:
        """The fragments of these environments."""
        own = {env_id: self.fragments[env_id] for env_id in shares if env_id in self.fragments}
        return replace(self, fragments=own, shares=shares)

    def steps(
        self, learner: Any, *, num_epochs: int = 1, num_minibatches: int = 1, **kwargs: Any
    ) -> Iterator[Minibatch]:
        """``num_epochs`` passes over the rollouts in ``num_minibatches`` minibatches each."""
        batch = learner.batch_of(self.fetch(learner))
        for hook in learner.hooks:
            hook.before_steps(learner, batch)
        return minibatches(
            batch,
            num_minibatches=num_minibatches,
            num_epochs=num_epochs,
            shuffle=Shuffle(seed=learner.shuffle_seed, update=learner.num_updates),
            keys=learner.env_keys,
            shares=self.shares,
            worlds={env_id: s.world_copies for env_id, s in learner.config.space_specs.items() if s.world},
        )

    def fetch(self, learner: Any) -> dict[str, list[Rollout]]:
        """The rollouts. What one learner cannot fetch, none uses, for they may share an environment.

        A rollout is lost where the node that held it is gone; it is logged and counted.
        """
        found: dict[str, list[tuple[SampledFragment, Any]]] = {}
        lost = torch.zeros(max(1, self.num_fragments), dtype=torch.int32, device=learner.device)
        for env_id, fragments in self.fragments.items():
            found[env_id] = []
            for fragment in fragments:
                rollout = fragment.rollout
                if isinstance(rollout, ray.ObjectRef):
                    try:
                        rollout = ray.get(rollout)
                    except ObjectLostError:
                        lost[fragment.number] = 1
                found[env_id].append((fragment, rollout))
        learner.reduction.maximum(lost)
        is_lost = lost.bool().tolist()
        for found_of_group in self._fragments_by_group():
            if any(is_lost[fragment.number] for fragment in found_of_group):
                for fragment in found_of_group:
                    is_lost[fragment.number] = True
        for env_id, fragments in self.fragments.items():
            steps = sum(fragment.steps for fragment in fragments if is_lost[fragment.number])
            if not steps:
                continue
            logger.warning("Fragments of %r with %d steps are lost: the node that held them is gone.", env_id, steps)
            if self.share(env_id).start == 0.0:  # of several learners one counts
                learner.metrics.log_value((env_id, NUM_FRAGMENTS_LOST_LIFETIME), 1, reduce="lifetime_sum")
                learner.metrics.log_value((env_id, NUM_ENV_STEPS_LOST_LIFETIME), steps, reduce="lifetime_sum")
        return {
            env_id: [rollout for fragment, rollout in pairs if not is_lost[fragment.number]]
            for env_id, pairs in found.items()
        }

    def _fragments_by_group(self) -> list[list[SampledFragment]]:
        """The fragments that one runner sampled of one world: they are of use together."""
        found: dict[tuple[str, int], list[SampledFragment]] = {}
        for env_id, fragments in self.fragments.items():
            for place, fragment in enumerate(fragments):
                found.setdefault((self.groups.get(env_id, env_id), place), []).append(fragment)
        return list(found.values())


@dataclass
class ReplayData(SharedTrainingData):
    """Replay stores that learners draw minibatches from.

    Attributes:
        batch_sizes: Transitions of each environment in a minibatch, over all learners.
        noise_sizes: Standard normal numbers that the loss of an environment needs for each transition; they come as the
            column :data:`NOISE`. Drawn with the rows, they do not depend on the number of learners.
    """

    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    noise_sizes: Mapping[str, int] = field(default_factory=dict)

    def draw(
        self,
        replays: Mapping[str, Replay],
        *,
        num_steps: int,
        seed: int,
        first_step: int,
        keys: Mapping[str, int],
        device: torch.device | None = None,
    ) -> Iterator[Minibatch]:
        """One minibatch for each step, with this learner's part of every environment.

        What is drawn depends on (seed, step, key) only, so learners that share an environment draw the same.

        Args:
            replays: This learner's stores, by env id.
            num_steps: How many minibatches.
            seed: Of the run.
            first_step: Number of optimiser steps made before.
            keys: Keys of the environments for their random numbers.
            device: Where tensors go.
        """
        block = max(1, _BLOCK_ROWS // max([1, *self.batch_sizes.values()]))
        for start in range(0, num_steps, block):
            numbers = range(first_step + start, first_step + min(start + block, num_steps))
            columns: dict[str, dict[str, tuple[torch.Tensor, ...]]] = {}
            weights: dict[str, float] = {}
            for env_id, replay in replays.items():
                size = self.batch_sizes[env_id]
                own = self.share(env_id).rows(0, size)
                if own.start == own.stop:
                    continue  # a sliver of an environment, less than a row
                generators = [draw_generator(seed, number, keys[env_id]) for number in numbers]
                drawn = [replay.draw(generator, size)[own] for generator in generators]
                found = replay.columns(np.concatenate(drawn))
                if width := self.noise_sizes.get(env_id, 0):
                    noise = [generator.standard_normal((size, width), np.float32)[own] for generator in generators]
                    found[NOISE] = np.concatenate(noise)  # [rows, width]
                columns[env_id] = {
                    key: torch.from_numpy(column).to(device).split(len(drawn[0])) for key, column in found.items()
                }
                weights[env_id] = len(drawn[0]) / size
            for n in range(len(numbers)):
                yield Minibatch(
                    columns={e: {key: parts[n] for key, parts in by_key.items()} for e, by_key in columns.items()},
                    weights=dict(weights),
                )
