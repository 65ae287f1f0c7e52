"""The learner of MAML, ProMP and Reptile: the meta-gradient of each environment's tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor, nn

from rllib_multienv.algorithms.maml.batches import STAGE, TASK
from rllib_multienv.inner_loop import InnerLoop, StepSizes, TaskRows
from rllib_multienv.learners import MultiEnvLearner, Step
from rllib_multienv.nets import ActorCritic
from rllib_multienv.rollout import VALID


class MultiEnvMAMLLearner(MultiEnvLearner):
    """Takes the inner steps of each task again, and differentiates what they lead to.

    The gradient is computed task by task, so that no more than one task's graph is in memory.
    """

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """The policy, with learned step sizes; values are not learned."""
        yield "actor", self.network.actor_parameters(), self.config.learning_rates()["actor"]

    def _forward(self, batch: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
        """Nothing: each task has parameters of its own."""
        return {env_id: {} for env_id in batch}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """The loss of one environment's trials, with the meta-gradient."""
        total, linear = meta_loss(
            self.network, module_id, batch, config.inner_loop, clip_param=config.clip_param, kl_coeff=config.kl_coeff
        )
        step.log(module_id, POLICY_LOSS_KEY, total)
        return total + linear - linear.detach()


def meta_loss(
    network: ActorCritic,
    env_id: str,
    batch: dict[str, Tensor],
    inner_loop: InnerLoop,
    *,
    clip_param: float,
    kl_coeff: float,
) -> tuple[Tensor, Tensor]:
    """The mean of the tasks' losses, weighted by their rows; see `InnerLoop.meta_loss`.

    Args:
        network: The network.
        env_id: The environment.
        batch: Columns of some trials, see `TrialBatches`.
        inner_loop: The inner steps.
        clip_param, kl_coeff: As for `InnerLoop.meta_loss`.

    Returns:
        The loss without gradient, and a function linear in the parameters that has its gradient.
    """
    parameters, sizes = inner_loop.trained(network, env_id), StepSizes.of(network)
    own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    own_sizes = {name: size.detach().requires_grad_() for name, size in sizes.items()}
    leaves = [*own.values(), *own_sizes.values()]
    sums = [torch.zeros_like(leaf) for leaf in leaves]
    rows = batch[STAGE]
    total = torch.zeros((), device=rows.device)
    for task, stages in tasks_of(batch, inner_loop.steps):
        start = inner_loop.of_task(own, task)
        loss = inner_loop.meta_loss(network, env_id, start, own_sizes, stages, clip_param=clip_param, kl_coeff=kl_coeff)
        loss = loss * (sum(len(stage.logp) for stage in stages) / len(rows))
        for total_of, gradient in zip(sums, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
            if gradient is not None:
                total_of += gradient
        total = total + loss.detach()
    trained = [*parameters.values(), *sizes.values()]
    return total, torch.stack([(p * gradient).sum() for p, gradient in zip(trained, sums, strict=True)]).sum()


def tasks_of(batch: dict[str, Tensor], steps: int) -> Iterator[tuple[int, list[TaskRows]]]:
    """The number of each task in a batch of `TrialBatches` (0 where they have none), and its rows by stage."""
    valid = batch[VALID]  # [L, S]
    task = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)[valid]  # [N]
    names = (Columns.OBS, Columns.ACTIONS, Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS, Postprocessing.ADVANTAGES)
    for number in range(valid.shape[1]):
        stages = batch[STAGE].where(task == number, -1)  # [N]
        own = int(batch[TASK][task == number][0]) if TASK in batch else 0
        yield own, [TaskRows(*(batch[name][stages == stage] for name in names)) for stage in range(steps + 1)]
