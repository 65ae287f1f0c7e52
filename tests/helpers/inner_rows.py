"""Rows of tasks for tests of adaptation by gradients."""

from __future__ import annotations

from typing import Any

import torch

from rllib_multienv.inner_loop import TaskRows
from rllib_multienv.nets import distribution_for


def random_rows(network: Any, count: int, seed: int, env_id: str = "env") -> TaskRows:
    """Drawn actions at random observations, with random advantages."""
    generator = torch.Generator().manual_seed(seed)
    one = network.interfaces[env_id]
    obs = torch.randn(count, one.obs_size, generator=generator)

    inputs = network.policy({env_id: obs})[env_id].detach()
    distribution = distribution_for(one).from_logits(inputs)
    actions = distribution.sample(generator)
    advantages = torch.randn(count, generator=generator)
    return TaskRows(obs, actions, distribution.logp(actions), inputs, advantages)
