"""Action values Q(s, a) for environments of any observation and action size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from .actor_critic import ActorCritic
from .interface import Interface, StateActionInterface

__all__ = ["ActionValues", "NetworkActionValues"]


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
    def all_values(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs ``[num_estimates, B, n]`` for inputs ``[B, I]``, as `StateActionInterface` describes them."""

    def forward(self, obs: Mapping[str, Tensor], actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the actions taken.

        Args:
            obs: ``[B, I]`` by environment.
            actions: ``[B, A]`` in [-1, 1] (continuous) or ``[B]`` (discrete).

        Returns:
            ``[num_estimates, B]`` by environment.
        """
        inputs = {
            env_id: value if self.interfaces[env_id].discrete else torch.cat([value, actions[env_id]], 1)
            for env_id, value in obs.items()
        }
        values = {}
        for env_id, outputs in self.all_values(inputs).items():  # [num_estimates, B, n]
            if self.interfaces[env_id].discrete:
                taken = actions[env_id].long().expand(len(outputs), -1).unsqueeze(2)  # [num_estimates, B, 1]
                outputs = outputs.gather(2, taken)
            values[env_id] = outputs.squeeze(2)
        return values

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

    def all_values(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActionValues.all_values`."""
        found = [network.policy(inputs) for network in self._networks()]
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
