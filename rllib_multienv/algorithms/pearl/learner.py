"""PEARL's learner: SAC's losses, and the encoder's KL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from rllib_multienv.algorithms.pearl import module as outputs
from rllib_multienv.algorithms.pearl.replay import TaskReplay
from rllib_multienv.algorithms.sac.learner import MultiEnvSACLearner
from rllib_multienv.learners import Step
from rllib_multienv.metrics import POSTERIOR_KL, POSTERIOR_STD
from rllib_multienv.nets import PosteriorActorCritic
from rllib_multienv.offline.replay import GrowingReplay


class MultiEnvPEARLLearner(MultiEnvSACLearner):
    """The losses of Q and policy given a latent of each task; the encoder learns from Q's and from the KL."""

    def new_replay(self, env_id: str, capacity: int) -> GrowingReplay:
        """A store of whole trials."""
        return TaskReplay(
            capacity,
            self.config.space_specs[env_id].observation,
            rows_per_task=self.config.batch_size // self.config.meta_batch_size,
            context_size=self.config.context_size,
        )

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Policy, Q and encoder, with a learning rate each."""
        yield from super().parameter_groups()
        network: Any = self.network
        assert isinstance(network, PosteriorActorCritic)
        yield "encoder", list(network.memory.parameters()), self.config.learning_rates()["encoder"]

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch of tasks."""
        loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out, step=step
        )
        kl = fwd_out[outputs.KL].mean()
        step.log(module_id, POSTERIOR_KL, kl)
        step.log(module_id, POSTERIOR_STD, fwd_out[outputs.DEVIATION].mean())
        return loss + config.kl_weight * kl
