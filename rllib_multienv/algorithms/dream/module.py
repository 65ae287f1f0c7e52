"""DREAM's shared module: PPO's, which gives the network the labels of tasks where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rllib_multienv.algorithms.dream.loss import inference_errors
from rllib_multienv.algorithms.ppo.module import PPOSharedModule
from rllib_multienv.nets import Outputs, Part
from rllib_multienv.nets.dream import EXPLORING, INFERRED, KNOWN, Label

#: Columns of training trials, see `Label`.
TASK, NOISE, TOLD = LABELS = ("task", "task_noise", "task_told")


class DreamSharedModule(PPOSharedModule):
    """Its batches also have the columns `LABELS` while training."""

    def _run(self, batch: Mapping[str, Any], *parts: Part, **options: Any) -> Outputs:
        labels = {e: Label(*(columns[key] for key in LABELS)) for e, columns in batch.items() if TASK in columns}
        return super()._run(batch, *parts, labels=labels, **options)

    @torch.no_grad()
    def compute_errors(self, batch: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
        """Whether each environment's rows explore, bool ``[N]``, and the squared errors of what is inferred ``[N]``."""
        found = self._run(batch).extra
        return {e: (own[EXPLORING], inference_errors(own[INFERRED], own[KNOWN])) for e, own in found.items()}
