"""Beliefs: a network that infers the task from what it has seen (VariBAD, Zintgraf et al. 2020, arXiv 1910.08348).

A recurrent encoder with parameters of its own gives mean and log variance of a Gaussian posterior over tasks after each
time step. Policy and values see both beside their encoded rows. No gradient of theirs reaches the encoder, which an
algorithm trains by itself (`algorithms.varibad`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import Inputs, Interface
from .memory import GRUReadout, NetworkMemory, State

if TYPE_CHECKING:
    from .actor_critic import ActorCritic

__all__ = ["BeliefMemory", "BeliefReader"]


class BeliefReader(nn.Module):
    """Joins encoded rows with beliefs: ``row + W2 GELU(W1 [row, belief])``."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width + 2 * latent, width)
        self.out = nn.Linear(width, width)

    def forward(self, rows: Tensor, belief: Tensor) -> Tensor:
        """``[R, H]`` from rows ``[R, H]`` and beliefs ``[R, 2 D]``."""
        joined: Tensor = self.out(F.gelu(self.hidden(torch.cat([rows, belief.to(rows.dtype)], 1))))
        return rows + joined


class BeliefMemory(NetworkMemory):
    """A belief about the task in place of a core that is trained with the policy.

    Args:
        network: encodes observations, previous inputs included, for the belief alone; its critic is dropped.
        width: features H of a row.
        size: units of the GRU; None: H.
        num_layers: its layers.
        latent: D, size of the posterior.
    """

    def __init__(self, network: ActorCritic, width: int, size: int | None, num_layers: int, latent: int) -> None:
        super().__init__(GRUReadout(width, size, num_layers, 2 * latent), width)
        network.drop_critic()
        self.latent, self.network = latent, network
        self.actor = BeliefReader(width, latent)
        self.critic = BeliefReader(width, latent)

    def for_actor(self, rows: Tensor, remembered: Tensor) -> Tensor:
        """See `NetworkMemory.for_actor`."""
        joined: Tensor = self.actor(rows, remembered)
        return joined

    def for_critic(self, rows: Tensor, remembered: Tensor) -> Tensor:
        """See `NetworkMemory.for_critic`."""
        joined: Tensor = self.critic(rows, remembered)
        return joined

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `NetworkMemory.add_env`."""
        self.network.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `NetworkMemory.remove_env`."""
        self.network.remove_env(env_id)

    @torch.no_grad()
    def remember(
        self,
        rows: Tensor,
        inputs: Mapping[str, Inputs],
        counts: Mapping[str, int],
        state: State | None,
        first: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Beliefs ``[R, 2 D]`` (means, then log variances) without gradient; see `NetworkMemory.remember`."""
        return self(self.network.encode_inputs(inputs), counts, state, first, valid)

    def infer(self, inputs: Mapping[str, Inputs], first: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor:
        """The same ``[R, 2 D]`` with gradient, of whole trials.

        Args:
            inputs: observations, in the order of their sizes.
            first, valid: bool ``[T, B]`` by environment, as in `ActorCritic.forward`.
        """
        counts = {env_id: len(own.numbers) for env_id, own in inputs.items()}
        belief, _ = self(self.network.encode_inputs(inputs), counts, None, first, valid)
        return belief

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those that make beliefs; those that read them belong to policy and values."""
        return [*self.network.parameters(), *self.core.parameters()]
