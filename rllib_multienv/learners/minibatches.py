"""Cuts every environment's batch into the same number of minibatches, and takes a learner's part of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.learners.shares import Share

Columns = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """One learner's part of a minibatch.

    Attributes:
        columns: ``{env_id: {column: [n_e, ...]}}``; environments of which this learner has no row are missing.
        weights: By env id, this learner's rows over the rows of all learners: the mean over its rows counts so much
            in the mean over the whole minibatch.
    """

    columns: dict[str, dict[str, Tensor]]
    weights: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """Orders of rows that every learner computes alike.

    They depend on nothing but what is written here, so learners that share an environment agree without a word, and the
    minibatches of a run are the same for any number of learners.
    """

    seed: int
    update: int

    def order(self, env_id: str, epoch: int, size: int) -> Tensor:
        """A permutation of ``size`` rows."""
        entropy = [self.seed, self.update, epoch, zlib.crc32(env_id.encode())]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return torch.randperm(size, generator=generator)


def minibatches(
    batch: Mapping[str, Columns],
    *,
    num_minibatches: int,
    num_epochs: int,
    shuffle: Shuffle,
    shares: Mapping[str, Share] | None = None,
) -> Iterator[Minibatch]:
    """``num_epochs * num_minibatches`` minibatches, each with its part of every environment.

    The number does not depend on the data: learners that own different environments, or have lost a fragment, take the
    same number of steps and meet at every all-reduce.

    Args:
        batch: ``{env_id: {column: [N_e, ...]}}``; N_e may differ between environments.
        num_minibatches: M; the sizes of an environment's minibatches differ by at most one row. An environment with
            fewer than M rows is missing from some.
        num_epochs: Passes over the data, each shuffled anew.
        shuffle: The orders.
        shares: This learner's part of each minibatch, by env id; all of it where not given.
    """
    shares = shares or {}
    for epoch in range(num_epochs):
        parts: list[dict[str, dict[str, Tensor]]] = [{} for _ in range(num_minibatches)]
        weights: list[dict[str, float]] = [{} for _ in range(num_minibatches)]
        for env_id, columns in batch.items():
            size = len(next(iter(columns.values())))
            order = shuffle.order(env_id, epoch, size)
            bounds = [size * m // num_minibatches for m in range(num_minibatches + 1)]
            share = shares.get(env_id, Share())
            rows = [order[share.rows(*pair)] for pair in pairwise(bounds)]
            # One gather per column and epoch; minibatches are then views.
            own = torch.cat(rows)
            lengths = [len(r) for r in rows]
            gathered = {key: column[own.to(column.device)].split(lengths) for key, column in columns.items()}
            for m, length in enumerate(lengths):
                if length:
                    parts[m][env_id] = {key: pieces[m] for key, pieces in gathered.items()}
                    weights[m][env_id] = length / (bounds[m + 1] - bounds[m])
        for columns_of_part, weights_of_part in zip(parts, weights, strict=True):
            yield Minibatch(columns=columns_of_part, weights=weights_of_part)
