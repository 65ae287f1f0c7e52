"""Minibatches and steps: equal counts for every environment; each learner keeps its share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.learners.shares import Share
from rllib_multienv.rollout import FIRST, VALID

Columns = Mapping[str, Tensor]
_STATE_IN = "state_in"
# Columns of sequences [L, S], [L, S] and [S, D], where others have rows.
_OF_SEQUENCES = (FIRST, VALID, _STATE_IN)


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """One learner's part of a minibatch.

    Attributes:
        columns: ``{env_id: {column: [n_e, ...]}}``; environments of which this learner has no row are missing. Where
            rows are those of sequences, ``"first"``, ``"valid"`` and ``"state_in"`` are of these.
        weights: By env id, this learner's rows over the rows of all learners: the mean over its rows counts so much
            in the mean over the whole minibatch.
        is_reported: Whether values logged in its step are reported: it is in the last pass over the data.
    """

    columns: dict[str, dict[str, Tensor]]
    weights: dict[str, float]
    is_reported: bool = True


class LossMeans:
    """Means of scalars over the reported steps of an update, by environment and key; rows weigh alike."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._weights: dict[tuple[str, str], float] = {}

    def add(self, env_id: str, key: str, value: Tensor, weight: float = 1.0) -> None:
        """Count a scalar; its mean is on its device, so that no step waits for the GPU."""
        place, value = (env_id, key), value.detach() if weight == 1.0 else value.detach() * weight
        self._sums[place] = self._sums[place] + value if place in self._sums else value
        self._weights[place] = self._weights.get(place, 0.0) + weight

    def __iter__(self) -> Iterator[tuple[str, str, Tensor]]:
        """Environment, key and mean."""
        for (env_id, key), total in self._sums.items():
            yield env_id, key, total / self._weights[env_id, key]

    def sum_and_weight(self, env_id: str, key: str) -> tuple[float, float]:
        """Weighted sum and sum of weights; zeros where nothing was counted."""
        place = env_id, key
        return (float(self._sums[place]), self._weights[place]) if place in self._sums else (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step, as losses and hooks see it.

    Attributes:
        minibatch: This learner's data.
        update: Number of the update, from 1.
        number: Number of the step in the update, from 0.
        means: What is reported of the update.
        logged: What was logged in this step, by env id and key; means over this learner's rows.
    """

    minibatch: Minibatch
    update: int = 1
    number: int = 0
    means: LossMeans = field(default_factory=LossMeans, repr=False)
    logged: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)

    @property
    def is_reported(self) -> bool:
        """Whether values logged in this step are reported."""
        return self.minibatch.is_reported

    def log(self, env_id: str, key: str, value: Tensor) -> None:
        """Report a scalar of this step; the result has its mean over the last pass of the update."""
        self.logged[env_id, key] = value.detach()
        if self.is_reported:
            self.means.add(env_id, key, value, self.minibatch.weights.get(env_id, 1.0))


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """Row orders. They depend only on these fields and an environment's key, so all learners compute the same order.

    Attributes:
        seed: Of the run.
        update: Number of the update.
    """

    seed: int
    update: int

    def order(self, key: int, epoch: int, size: int) -> Tensor:
        """A permutation of ``size`` rows of the environment with this ``key``."""
        entropy = [self.seed, self.update, epoch, key]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        return torch.randperm(size, generator=generator)


def minibatches(
    batch: Mapping[str, Columns],
    *,
    num_minibatches: int,
    num_epochs: int,
    shuffle: Shuffle,
    keys: Mapping[str, int],
    shares: Mapping[str, Share] | None = None,
    worlds: Mapping[str, int] | None = None,
) -> Iterator[Minibatch]:
    """``num_epochs * num_minibatches`` minibatches, each with its part of every environment.

    The number does not depend on the data: learners that own different environments, or have lost a fragment, take the
    same number of steps and meet at every all-reduce.

    Args:
        batch: ``{env_id: {column: [N_e, ...]}}``; N_e may differ between environments. Rows of sequences, for a network
            with memory or worlds (`GeneralizedAdvantages`), stay together: minibatches have whole sequences.
        num_minibatches: M; the sizes of an environment's minibatches differ by at most one row (sequence). An
            environment with fewer than M rows is missing from some.
        num_epochs: Passes over the data, each in another order. The last one is reported.
        shuffle: The orders.
        keys: Key of each environment for its orders.
        shares: This learner's part of each minibatch, by env id; all of it where not given.
        worlds: Copies in one world of each environment that is in one. Their sequences stay together: those of all
            environments of a world, which have the same key, are drawn in the same order.
    """
    shares, worlds = shares or {}, worlds or {}
    for epoch in range(num_epochs):
        parts: list[dict[str, dict[str, Tensor]]] = [{} for _ in range(num_minibatches)]
        weights: list[dict[str, float]] = [{} for _ in range(num_minibatches)]
        images: list[list[tuple[str, str, Tensor]]] = [[] for _ in range(num_minibatches)]  # env_id, column, rows
        for env_id, columns in batch.items():
            has_sequences, share = VALID in columns, shares.get(env_id, Share())
            size = columns[VALID].shape[1] if has_sequences else len(next(iter(columns.values())))
            together = worlds.get(env_id, 1)
            size //= together
            order = shuffle.order(keys[env_id], epoch, size)
            bounds = [size * m // num_minibatches for m in range(num_minibatches + 1)]
            chosen = [order[share.rows(*pair)] for pair in pairwise(bounds)]  # this learner's rows, or sequences
            rows, totals = chosen, [last - first for first, last in pairwise(bounds)]
            if has_sequences:
                chosen = [_of_worlds(own, together) for own in chosen]
                rows = [_rows_of(columns[VALID], own) for own in chosen]
                parts_of_all = [_of_worlds(order[slice(*pair)], together) for pair in pairwise(bounds)]
                totals = [int(columns[VALID][:, own].sum()) for own in parts_of_all]
            # One gather per column and epoch; minibatches are then views. Images are gathered for one minibatch at a
            # time, so that there is no second copy of all of them.
            own = torch.cat(rows)
            lengths = [len(r) for r in rows]
            gathered = {
                key: column[own.to(column.device)].split(lengths)
                for key, column in columns.items()
                if column.dtype != torch.uint8 and key not in _OF_SEQUENCES
            }
            for m, length in enumerate(lengths):
                if length:
                    parts[m][env_id] = {key: pieces[m] for key, pieces in gathered.items()}
                    images[m] += [(env_id, key, rows[m]) for key in columns if columns[key].dtype == torch.uint8]
                    if has_sequences:
                        parts[m][env_id] |= _of_sequences(columns, chosen[m])
                    weights[m][env_id] = length / totals[m]
        for columns_of_part, weights_of_part, images_of_part in zip(parts, weights, images, strict=True):
            own_columns = {env_id: dict(columns) for env_id, columns in columns_of_part.items()}
            for env_id, key, rows_of_part in images_of_part:
                column = batch[env_id][key]
                own_columns[env_id][key] = column[rows_of_part.to(column.device)]
            yield Minibatch(columns=own_columns, weights=weights_of_part, is_reported=epoch == num_epochs - 1)


def _of_worlds(chosen: Tensor, copies: int) -> Tensor:
    """The sequences of all ``copies`` in the ``chosen`` worlds."""
    return chosen if copies == 1 else (chosen[:, None] * copies + torch.arange(copies)).flatten()


def _rows_of(valid: Tensor, chosen: Tensor) -> Tensor:
    """The rows of some sequences, time first; ``valid`` bool [L, S] says which steps of all sequences have one."""
    valid, chosen = valid.cpu(), chosen.cpu()
    numbers = valid.flatten().cumsum(0).view_as(valid) - 1  # [L, S]
    return numbers[:, chosen][valid[:, chosen]]


def _of_sequences(columns: Columns, chosen: Tensor) -> dict[str, Tensor]:
    """The columns of some sequences alone that have no rows."""
    chosen = chosen.to(columns[VALID].device)
    of_steps = {key: columns[key][:, chosen] for key in (FIRST, VALID)}
    return of_steps | ({_STATE_IN: columns[_STATE_IN][chosen]} if _STATE_IN in columns else {})
