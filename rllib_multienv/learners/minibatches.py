"""Cuts every environment's batch into the same number of minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

Columns = Mapping[str, Tensor]


def minibatches(
    batch: Mapping[str, Columns], *, num_minibatches: int, num_epochs: int, generator: torch.Generator
) -> Iterator[dict[str, dict[str, Tensor]]]:
    """``num_epochs * num_minibatches`` minibatches, each with its share of every environment.

    The number does not depend on the data: learners that own different environments, or have lost a fragment, take the
    same number of steps and meet at every all-reduce.

    Args:
        batch: ``{env_id: {column: [N_e, ...]}}``; N_e may differ between environments.
        num_minibatches: M; the sizes of an environment's minibatches differ by at most one row. An environment with
            fewer than M rows is missing from some.
        num_epochs: Passes over the data, each shuffled anew.
        generator: Source of the shuffles, on the CPU.

    Yields:
        ``{env_id: {column: [about N_e / M, ...]}}``.
    """
    sizes = {env_id: len(next(iter(columns.values()))) for env_id, columns in batch.items()}
    for _ in range(num_epochs):
        shuffled = {}
        for env_id, columns in batch.items():
            order = torch.randperm(sizes[env_id], generator=generator)
            # One gather per column and epoch; minibatches are then views.
            shuffled[env_id] = {key: column[order.to(column.device)] for key, column in columns.items()}
        for m in range(num_minibatches):
            minibatch = {}
            for env_id, columns in shuffled.items():
                rows = slice(sizes[env_id] * m // num_minibatches, sizes[env_id] * (m + 1) // num_minibatches)
                if rows.start < rows.stop:
                    minibatch[env_id] = {key: column[rows] for key, column in columns.items()}
            yield minibatch
