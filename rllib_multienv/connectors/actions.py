"""Module-to-env pieces: sample actions, and convert them to the environments' spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_multienv.nets import MASKED_LOGIT, distribution_for
from rllib_multienv.spec import SpaceSpec


class SampleActions(ConnectorV2):
    """Adds ``"actions"`` and ``"action_logp"`` as arrays; takes the mode where ``explore`` is false.

    Actions are the network's: 0..n-1 for discrete spaces, otherwise [B, A] around [-1, 1], not clipped (the probability
    is that of the action that was drawn). Draws come from this piece's own generator, so that its state can be saved
    and nothing else in the process disturbs it.
    """

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], seed: int | None, device: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.distributions = {env_id: distribution_for(spec) for env_id, spec in space_specs.items()}
        self.generator = torch.Generator(device=device or "cpu")
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)

    def __call__(self, *, batch: dict[str, Any], explore: bool | None = None, **kwargs: Any) -> dict[str, Any]:
        """Sample where a (user's) piece before this one has not set actions already.

        Raises:
            ValueError: Such actions are no tensor, or have another shape than those of the module.
        """
        for env_id, columns in batch.items():
            inputs = columns[Columns.ACTION_DIST_INPUTS]
            distribution = self.distributions[env_id].from_logits(inputs)
            if Columns.ACTIONS in columns:
                _check_actions(env_id, columns[Columns.ACTIONS], distribution.to_deterministic().sample())
            else:
                chosen = distribution if explore else distribution.to_deterministic()
                columns[Columns.ACTIONS] = chosen.sample(generator=self.generator) if explore else chosen.sample()
            if explore:
                columns[Columns.ACTION_LOGP] = distribution.logp(columns[Columns.ACTIONS]).cpu().numpy()
            columns[Columns.ACTIONS] = columns[Columns.ACTIONS].cpu().numpy()
            columns[Columns.ACTION_DIST_INPUTS] = inputs.cpu().numpy()
        return batch

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """State of the random generator."""
        return {"generator": self.generator.get_state().numpy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue drawing where a saved piece stopped; without a generator's state, do nothing."""
        if "generator" in state:
            self.generator.set_state(torch.from_numpy(state["generator"].copy()))

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """Runners draw independently: there is nothing to merge or to send."""
        return {}


def _check_actions(env_id: str, actions: Any, expected: torch.Tensor) -> None:
    if not isinstance(actions, torch.Tensor) or actions.shape != expected.shape:
        given = f"a tensor {list(actions.shape)}" if isinstance(actions, torch.Tensor) else type(actions).__name__
        raise ValueError(
            f"A connector set batch[{env_id!r}]['actions'] to {given}; it must be a tensor {list(expected.shape)}: the "
            "network's actions, one row per copy."
        )


class RandomActions(ConnectorV2):
    """Sets ``"actions"`` in the first steps of each environment, before `SampleActions`: uniform in the action space.

    Args:
        space_specs: The environments.
        num_steps: How many steps of each, over its copies.
        seed: Of the draws.
    """

    def __init__(
        self, *, space_specs: Mapping[str, SpaceSpec], num_steps: Mapping[str, int], seed: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.writers = {env_id: spec.writer for env_id, spec in space_specs.items()}
        self.generator = np.random.default_rng(seed)
        self.left = dict(num_steps)

    def __call__(self, *, batch: dict[str, Any], explore: bool | None = None, **kwargs: Any) -> dict[str, Any]:
        """Draw where there are steps left, among the actions that are not masked."""
        for env_id in self.left if explore else ():
            columns = batch.get(env_id)
            if columns is None or self.left[env_id] <= 0 or Columns.ACTIONS in columns:
                continue
            inputs, writer = columns[Columns.ACTION_DIST_INPUTS], self.writers[env_id]
            allowed = (inputs[:, : writer.layout.num_logits] > 0.5 * MASKED_LOGIT).cpu().numpy()
            rows = writer.random_rows(len(inputs), self.generator, allowed)
            columns[Columns.ACTIONS] = torch.from_numpy(rows).to(inputs.device)
            self.left[env_id] -= len(rows)
        return batch

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """State of the random generator, and the steps that are left."""
        return {"random": self.generator.bit_generator.state, "left": dict(self.left)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where a saved piece stopped; environments that it did not know begin with random actions."""
        if "random" in state:
            self.generator.bit_generator.state = state["random"]
            self.left |= {env_id: left for env_id, left in state["left"].items() if env_id in self.left}

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """Runners draw independently: there is nothing to merge or to send."""
        return {}


class ActionsToEnv(ConnectorV2):
    """Adds ``"actions_for_env"``: clipped, un-squashed to the space's bounds, in the space's shape and dtype."""

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.space_specs = dict(space_specs)

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Convert where a (user's) piece before this one has not done so already."""
        for env_id, columns in batch.items():
            if Columns.ACTIONS_FOR_ENV not in columns:
                columns[Columns.ACTIONS_FOR_ENV] = self.space_specs[env_id].action_to_env(columns[Columns.ACTIONS])
        return batch
