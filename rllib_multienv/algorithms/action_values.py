"""Twin action values and their slow copy: the module, learner and checkpoints that IQL and SAC have in common."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from rllib_multienv.algorithms.checkpointing import part_of
from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.learners import MultiEnvLearner
from rllib_multienv.modules import SharedModule
from rllib_multienv.nets import ActionValues, Interface, net_config_from_dict
from rllib_multienv.spec import SpaceSpec
from rllib_multienv.transfer import transferred_state


class ActionValuesModule(SharedModule):
    """The agent's network (``network``), twin Q (``action_values``) and their slow copy (``targets``).

    Only learners have Q and its copy.
    """

    action_values: ActionValues
    targets: ActionValues

    def setup(self) -> None:
        """Build the networks; for inference the policy alone."""
        super().setup()
        if not self.inference_only:
            config = net_config_from_dict(self.model_config["network"])
            self.action_values = config.build_critic(self.model_config["interfaces"])
            self.targets = copy.deepcopy(self.action_values).requires_grad_(False)
            self._list_parameters()

    def _list_parameters(self) -> None:
        # Walking through a module for its parameters takes as long as a layer of a small network.
        self._own: list[Any] = list(self.action_values.parameters())
        self._slow: list[Any] = list(self.targets.parameters())

    def get_non_inference_attributes(self) -> list[str]:
        """Parts that only learners use."""
        return [*super().get_non_inference_attributes(), "action_values", "targets"]

    def add_env(self, env_id: str, space_spec: SpaceSpec) -> None:
        """See `SharedModule.add_env`; new parameters of the targets are those of the action values."""
        super().add_env(env_id, space_spec)
        if not self.inference_only:
            seen = self.seen_by_action_values(env_id, space_spec)
            self.action_values.add_env(env_id, seen)
            known = {name for name, _ in self.targets.named_parameters()}
            self.targets.add_env(env_id, seen)
            own, new = self.action_values.state_dict(), dict(self.targets.requires_grad_(False).named_parameters())
            for name in new.keys() - known:
                new[name].copy_(own[name])
            self._list_parameters()

    def seen_by_action_values(self, env_id: str, space_spec: SpaceSpec) -> Interface:
        """A new environment as action values see it."""
        return space_spec

    def remove_env(self, env_id: str) -> None:
        """See `SharedModule.remove_env`."""
        super().remove_env(env_id)
        if not self.inference_only:
            self.action_values.remove_env(env_id)
            self.targets.remove_env(env_id)
            self._list_parameters()

    def action_value_parameters(self) -> list[nn.Parameter]:
        """Parameters of twin Q."""
        return self._own

    @contextmanager
    def action_values_frozen(self) -> Iterator[ActionValues]:
        """Twin Q without gradients by its parameters; those by its inputs are computed."""
        for parameter in self._own:
            parameter.requires_grad_(False)
        try:
            yield self.action_values
        finally:
            for parameter in self._own:
                parameter.requires_grad_(True)

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """Move the slow copy towards the action values by the share ``tau`` (Polyak averaging)."""
        torch._foreach_lerp_(self._slow, self._own, tau)


class ActionValuesLearner(MultiEnvLearner):
    """Moves the target networks after each step."""

    @property
    def _shared(self) -> ActionValuesModule:
        shared = self.module.shared
        assert isinstance(shared, ActionValuesModule)
        return shared

    def after_step(self) -> None:
        """Move the target networks."""
        self._shared.move_targets(self.config.tau)


class ActionValuesAlgorithm(MultiEnvAlgorithm):
    """Checkpoints and starts with Q."""

    def _initial_weights(self, checkpoint: AgentCheckpoint, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Policy and V, and Q if the agent has one; otherwise Q keeps its fresh parameters."""
        weights = super()._initial_weights(checkpoint, state)
        if checkpoint.action_values is None:
            return weights
        specs, path = self.config.space_specs, self.config.initial_checkpoint
        own = part_of(state, "action_values")
        for name, tensor in transferred_state(checkpoint, own, specs, path, part="action_values").items():
            weights[f"action_values.{name}"] = weights[f"targets.{name}"] = tensor.numpy()
        return weights

    def _describe(self, state: Mapping[str, np.ndarray]) -> AgentCheckpoint:
        """With Q."""
        return replace(super()._describe(state), action_values=part_of(state, "action_values"))
