"""DREAM's learner: PPO's loss of both policies, and those of what is known and inferred of tasks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rllib_multienv.algorithms.dream.loss import bottleneck_loss, inference_errors
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.learners import Step
from rllib_multienv.metrics import INFERENCE_ERROR, TASK_EMBEDDING_SIZE
from rllib_multienv.nets.dream import INFERRED, KNOWN


class MultiEnvDREAMLearner(MultiEnvPPOLearner):
    """One step trains explorer, exploiter, inference and embedding of labels, which share no parameter.

    The embedding of labels has its gradient from the exploiter's policy and values and from the bottleneck, the
    inference from its own errors. Both losses are in units of the bottleneck.
    """

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        loss = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out, step=step
        )
        known = fwd_out[KNOWN]
        error = inference_errors(fwd_out[INFERRED], known).mean()
        step.log(module_id, INFERENCE_ERROR, error)
        step.log(module_id, TASK_EMBEDDING_SIZE, known.square().sum(-1).mean())
        losses = config.inference_coeff * error + config.bottleneck_coeff * bottleneck_loss(known, config.bottleneck)
        return loss + losses / config.bottleneck
