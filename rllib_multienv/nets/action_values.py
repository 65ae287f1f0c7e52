"""Action values Q(s, a) for environments of any observation and action size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_multienv.spaces.rows import ActionRow

from .actor_critic import ActorCritic
from .interface import Inputs, Interface, StateActionInterface

__all__ = ["ActionValues", "NetworkActionValues"]


def action_numbers(row: ActionRow, actions: Tensor) -> Tensor:
    """Actions ``[B, width]`` as numbers ``[B, num_logits + num_continuous]``: choices are one-hot."""
    if all(part.kind != "categorical" for part in row.parts):
        return actions
    columns = actions.split([1 if part.kind == "categorical" else part.size for part in row.parts], 1)
    numbers = [
        F.one_hot(own[:, 0].long(), part.size).to(actions.dtype) if part.kind == "categorical" else own
        for part, own in zip(row.parts, columns, strict=True)
    ]
    return torch.cat(numbers, 1)


class ActionValues(nn.Module, ABC):
    """Several estimates of ``Q(s, a)`` side by side (twin Q), for several environments at once.

    A subclass implements `all_values`.

    Attributes:
        interfaces: the known environments by id.
        inputs: the same as `StateActionInterface`.
    """

    def __init__(self, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.interfaces: dict[str, Interface] = {}
        self.inputs: dict[str, StateActionInterface] = {}
        for env_id, interface in interfaces.items():
            ActionValues.add_env(self, env_id, interface)

    @abstractmethod
    def all_values(self, inputs: Mapping[str, Inputs]) -> dict[str, Tensor]:
        """Outputs ``[num_estimates, B, n]`` for inputs as `StateActionInterface` describes them."""

    def forward(self, obs: Mapping[str, Tensor], actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the actions taken.

        Args:
            obs: ``[B, width]`` by environment (see `ObservationRow`).
            actions: ``[B]`` if they are single choices, else ``[B, width]`` (see `ActionRow`).

        Returns:
            ``[num_estimates, B]`` by environment.
        """
        numbers = {e: self.numbers(e, actions[e]) for e in obs if not self.interfaces[e].discrete}
        return {e: self.taken(e, values, actions[e]) for e, values in self.every(obs, numbers).items()}

    def every(self, obs: Mapping[str, Tensor | Inputs], numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of all actions of a single choice, and of given actions of all other kinds.

        Args:
            obs: ``[B, width]`` by environment, or taken apart already.
            numbers: actions as numbers (see `numbers`) of the environments whose actions are not single choices.

        Returns:
            ``[num_estimates, B, n]`` by environment; n is 1 where the action is no single choice.
        """
        inputs = {}
        for env_id, rows in obs.items():
            found, media, _ = Inputs.of(env_id, self.interfaces[env_id].observation, rows)
            inputs[env_id] = Inputs(torch.cat([found, numbers[env_id]], 1) if env_id in numbers else found, media)
        return self.all_values(inputs)

    def numbers(self, env_id: str, actions: Tensor) -> Tensor:
        """Actions ``[B, width]`` as numbers ``[B, num_logits + num_continuous]``: choices are one-hot."""
        return action_numbers(self.interfaces[env_id].action, actions)

    def taken(self, env_id: str, values: Tensor, actions: Tensor) -> Tensor:
        """``[num_estimates, B]``, of `every` action's values those of the actions taken."""
        if self.interfaces[env_id].discrete:
            values = values.gather(2, actions.long().expand(len(values), -1).unsqueeze(2))  # [num_estimates, B, 1]
        return values.squeeze(2)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment known."""
        self.interfaces[env_id] = interface
        self.inputs[env_id] = StateActionInterface(interface)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment."""
        del self.interfaces[env_id], self.inputs[env_id]


class NetworkActionValues(ActionValues):
    """Action values from any kind of network: each estimate is the policy network for `StateActionInterface`.

    The logits of that network are the values.

    Args:
        build: makes a network, without dropout, which would make the targets of V noisy.
        interfaces: the environments.
        num_estimates: number of networks.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, Interface]], ActorCritic],
        interfaces: Mapping[str, Interface],
        *,
        num_estimates: int,
    ) -> None:
        super().__init__(interfaces)
        self.estimates = nn.ModuleList(build(self.inputs) for _ in range(num_estimates))
        for network in self._networks():
            network.drop_critic()

    def _networks(self) -> list[ActorCritic]:
        return [cast(ActorCritic, network) for network in self.estimates]

    def all_values(self, inputs: Mapping[str, Inputs]) -> dict[str, Tensor]:
        """See `ActionValues.all_values`."""
        found = [network.run(inputs, parts=("actor",)).policy for network in self._networks()]
        return {env_id: torch.stack([values[env_id] for values in found]) for env_id in inputs}

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActionValues.add_env`."""
        super().add_env(env_id, interface)
        for network in self._networks():
            network.add_env(env_id, self.inputs[env_id])

    def remove_env(self, env_id: str) -> None:
        """See `ActionValues.remove_env`."""
        super().remove_env(env_id)
        for network in self._networks():
            network.remove_env(env_id)
