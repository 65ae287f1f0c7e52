"""Ways to adapt to a task: by memory, or by steps of a gradient. A checkpoint names its agent's way.

Another way is an `Adapter` and a line in `ADAPTERS`; the algorithm's configuration names it in its ``adapter``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.inner_loop import InnerLoop, TaskPolicies
from rllib_multienv.nets import distribution_for
from rllib_multienv.policy import AgentPolicy


class Adapter(Protocol):
    """An agent that adapts to B tasks at once, each in a copy of its own.

    It adapts between two calls as it likes: by memory of what it has seen, or by steps of a gradient or of a posterior
    at the end of each episode.
    """

    def begin(self, num_tasks: int) -> None:
        """B new tasks begin, of which nothing is known."""

    def act(self, raw: np.ndarray) -> Any:
        """Actions in the environment's own terms for raw observations ``[B, ...]``."""

    def observe(self, step: VectorStep) -> None:
        """See what came of these actions; ``step.episode_ends`` says where episodes ended."""


class MemoryAdapter:
    """Acts with the policy; what it knows of a task is in its memory.

    Args:
        policy: The policy.
        env_id: The environment.
        explore: Draw actions instead of taking the mode.
        generator: Source of the draws.
    """

    def __init__(self, policy: AgentPolicy, env_id: str, explore: bool, generator: torch.Generator) -> None:
        self._policy, self._env_id, self._explore, self._generator = policy, env_id, explore, generator
        self._state: torch.Tensor | None = None

    def begin(self, num_tasks: int) -> None:
        """See `Adapter.begin`."""
        self._state = None

    def act(self, raw: np.ndarray) -> Any:
        """See `Adapter.act`."""
        actions, self._state = self._policy.act_on_raw(self._env_id, raw, self._explore, self._generator, self._state)
        return actions

    def observe(self, step: VectorStep) -> None:
        """See `Adapter.observe`."""
        self._state = self._policy.begun(self._state, step.terminated | step.truncated)


class GradientAdapter:
    """Acts with a policy for each task, which takes steps of the gradient between episodes.

    Args:
        policy: The policy, which has no memory; its parameters are the start.
        env_id: The environment.
        explore: Has no effect: all actions are drawn.
        generator: Source of the draws.
        fields: Those of `InnerLoop`.
    """

    def __init__(
        self, policy: AgentPolicy, env_id: str, explore: bool, generator: torch.Generator, **fields: Any
    ) -> None:
        if policy.network.memory is not None:
            raise ValueError("inner_loop: a network with memory does not adapt by steps of a gradient.")
        self._policy, self._env_id, self._generator, self._inner_loop = policy, env_id, generator, InnerLoop(**fields)

    def begin(self, num_tasks: int) -> None:
        """See `Adapter.begin`."""
        self._policies = TaskPolicies(self._inner_loop, self._policy.network, self._env_id, num_tasks)

    def act(self, raw: np.ndarray) -> Any:
        """See `Adapter.act`."""
        spaces, rows = self._policy.space_specs[self._env_id], self._policy.rows(self._env_id, raw)
        inputs = self._policies(rows)
        distribution = distribution_for(spaces).from_logits(inputs)
        actions = distribution.sample(generator=self._generator)
        columns = {"obs": rows, "actions": actions, "logp": distribution.logp(actions), "dist_inputs": inputs}
        self._seen = {key: column.cpu().numpy() for key, column in columns.items()}
        return spaces.action_to_env(self._seen["actions"])

    def observe(self, step: VectorStep) -> None:
        """See `Adapter.observe`."""
        assert step.episode_ends is not None  # in trials
        done = step.terminated | step.truncated
        self._policies.observe(self._seen, step.rewards, step.episode_ends, done, ~step.is_reset)


#: Ways to adapt by the name that checkpoints have; each takes policy, env id, explore, generator, and the checkpoint's
#: other fields.
ADAPTERS: dict[str, type[Any]] = {
    "memory": MemoryAdapter,
    "inner_loop": GradientAdapter,
}


def make_adapter(
    way: Mapping[str, Any], policy: AgentPolicy, env_id: str, *, explore: bool, generator: torch.Generator
) -> Adapter:
    """What adapts to tasks of an environment.

    Args:
        way: ``type``, a name in `ADAPTERS`, and its fields.
        policy: The agent's policy.
        env_id: The environment.
        explore: Draw actions instead of taking the mode.
        generator: Source of the draws.

    Raises:
        ValueError: There is no such way, or the network cannot adapt like that.
    """
    fields = dict(way)
    name = fields.pop("type")
    if name not in ADAPTERS:
        raise ValueError(f"The agent adapts by {name!r}; this version knows {', '.join(map(repr, ADAPTERS))}.")
    adapter: Adapter = ADAPTERS[name](policy, env_id, explore, generator, **fields)
    return adapter
