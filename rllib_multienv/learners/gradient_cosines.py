"""How much environments agree: the cosines between their gradients.

A negative cosine means that a step which helps one environment harms the other (negative interference; Yu et al. 2020,
"Gradient surgery for multi-task learning").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor


def environment_gradients(
    losses: Mapping[str, Tensor],
    env_ids: Sequence[str],
    parameters: Sequence[Tensor],
    reduce: Callable[[list[Tensor]], None] = lambda gradients: None,
) -> Tensor:
    """The gradient of each environment's loss.

    Args:
        losses: This learner's share of each environment's loss; the graph is kept for another backward.
        env_ids: All environments of the run, in the order that all learners use.
        parameters: What to differentiate by.
        reduce: Replaces gradients by their sums over all learners.

    Returns:
        ``[E, P]``, one flat gradient per environment; zeros where a loss does not reach.
    """
    rows = []
    for env_id in env_ids:
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if env_id in losses:
            found = torch.autograd.grad(losses[env_id], parameters, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        reduce(gradients)
        rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    return torch.stack(rows)


def cosines(gradients: Tensor, env_ids: Sequence[str]) -> Iterator[tuple[str, str, Tensor]]:
    """The cosine of each pair of environments, in their order; pairs with a gradient of zero are left out.

    Args:
        gradients: ``[E, P]``.
        env_ids: The E environments.
    """
    norms = gradients.norm(dim=1)
    products = gradients @ gradients.T
    for first, env_a in enumerate(env_ids):
        for second in range(first + 1, len(env_ids)):
            size = norms[first] * norms[second]
            if size > 0:
                yield env_a, env_ids[second], products[first, second] / size
