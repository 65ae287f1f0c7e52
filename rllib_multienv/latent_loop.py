"""Adaptation by steps on a latent alone: structured exploration (MAESN, Gupta et al. 2018, arXiv 1802.07245).

The policy sees ``z = mean + exp(log_std) * noise`` beside each observation. The noise is the input ``"noise:D"``, the
last numbers of an observation, N(0, 1) and the same throughout an episode. Mean and log standard deviation are the
task's own. Both are zero under the prior, so that the network without any adaptation is the prior's policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rllib_multienv.inner_loop import TASK_LATENTS, InnerLoop, Parameters, TaskRows
from rllib_multienv.nets import ActorCritic
from rllib_multienv.nets.parameters import env_key, insert_part
from rllib_multienv.spec import SpaceSpec

__all__ = ["LatentLoop", "TaskLatents", "check_numbers", "prior"]

_MEAN, _LOG_STD = "latent.mean", "latent.log_std"


def prior(size: int) -> dict[str, Tensor]:
    """The latent of a task of which nothing is known, ``[D]`` each by name: N(0, 1)."""
    return {_MEAN: torch.zeros(size), _LOG_STD: torch.zeros(size)}


def check_numbers(spaces: SpaceSpec) -> None:
    """Check that an environment's observations are numbers, beside which latents can stand.

    Raises:
        ValueError: They are not.
    """
    if spaces.observation.packed:
        raise ValueError(
            f"Environment {spaces.env_id!r} has images, text or an action mask; latents stand beside numbers alone."
        )


class TaskLatents(nn.Module):
    """Mean and log standard deviation of each task of training, ``[num_tasks, 2, D]`` for each environment.

    It is the child ``task_latents`` of a network. Who adapts to a new task needs none of them.

    Args:
        env_ids: The environments.
        num_tasks: Tasks of each.
        size: D.
    """

    def __init__(self, env_ids: Sequence[str], num_tasks: int, size: int) -> None:
        super().__init__()
        self.num_tasks, self.size = num_tasks, size
        self.tables = nn.ParameterDict()
        for env_id in env_ids:
            self.add_env(env_id)

    def add_env(self, env_id: str) -> None:
        """Latents for the tasks of another environment, which are the prior."""
        zeros = torch.zeros(self.num_tasks, 2, self.size)
        insert_part(self.tables, env_id, nn.Parameter(zeros))

    def remove_env(self, env_id: str) -> None:
        """Remove those of an environment."""
        del self.tables[env_key(env_id)]

    @staticmethod
    def of(network: ActorCritic, env_id: str) -> nn.Parameter:
        """``[num_tasks, 2, D]``, those of an environment in a network."""
        latents: Any = getattr(network, TASK_LATENTS)
        table: nn.Parameter = latents.tables[env_key(env_id)]
        return table


@dataclass(frozen=True, kw_only=True)
class LatentLoop(InnerLoop):
    """Steps on the latent of a task; all else of the policy stays as it is.

    Attributes:
        latent_size: D.
        prior_coeff: Factor of the KL divergence of the latent before the first step from the prior, in the meta-loss.
    """

    latent_size: int = 2
    prior_coeff: float = 0.1

    def start(self, network: ActorCritic) -> Parameters:
        """See `InnerLoop.start`."""
        device = next(network.parameters()).device
        return {name: value.to(device) for name, value in prior(self.latent_size).items()}

    def trained(self, network: ActorCritic, env_id: str) -> Mapping[str, nn.Parameter]:
        """See `InnerLoop.trained`."""
        return {**super().trained(network, env_id), TASK_LATENTS: TaskLatents.of(network, env_id)}

    def of_task(self, trained: Parameters, task: int) -> Parameters:
        """See `InnerLoop.of_task`."""
        others = {name: value for name, value in trained.items() if name != TASK_LATENTS}
        return {**others, **self.latents(trained[TASK_LATENTS][task])}

    @staticmethod
    def latents(table: Tensor) -> dict[str, Tensor]:
        """Rows ``[..., 2, D]`` of `TaskLatents` by name, ``[..., D]`` each."""
        return {_MEAN: table[..., 0, :], _LOG_STD: table[..., 1, :]}

    def is_adapted(self, name: str) -> bool:
        """See `InnerLoop.is_adapted`."""
        return name in (_MEAN, _LOG_STD)

    def policy(self, network: ActorCritic, env_id: str, parameters: Parameters, obs: Tensor) -> Tensor:
        """See `InnerLoop.policy`."""
        others = {name: value for name, value in parameters.items() if not self.is_adapted(name)}
        return network.policy_with(others, env_id, _with_latents(parameters, obs))

    def policies(self, network: ActorCritic, env_id: str, parameters: Parameters, obs: Tensor) -> Tensor:
        """See `InnerLoop.policies`."""
        return network.policy({env_id: _with_latents(parameters, obs)})[env_id]

    def meta_loss(
        self,
        network: ActorCritic,
        env_id: str,
        parameters: Parameters,
        sizes: Parameters,
        stages: Sequence[TaskRows],
        *,
        clip_param: float,
        kl_coeff: float = 0.0,
    ) -> Tensor:
        """See `InnerLoop.meta_loss`."""
        loss = super().meta_loss(network, env_id, parameters, sizes, stages, clip_param=clip_param, kl_coeff=kl_coeff)
        mean, log_std = parameters[_MEAN], parameters[_LOG_STD]
        return loss + self.prior_coeff * (0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std).sum()


def _with_latents(parameters: Parameters, obs: Tensor) -> Tensor:
    """``[n, width]``, observations whose noise became z; latents are ``[D]``, or ``[n, D]``."""
    mean, log_std = parameters[_MEAN], parameters[_LOG_STD]
    own, noise = obs.tensor_split([-mean.shape[-1]], 1)
    return torch.cat([own, mean + log_std.exp() * noise], 1)
