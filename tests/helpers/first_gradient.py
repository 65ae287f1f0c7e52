"""What tests of several learners look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny_runs import assert_same

from rllib_multienv.learners import MultiEnvLearner, Step


class RecordsFirstGradient(MultiEnvLearner):
    """Keeps the first reduced gradient, before it is clipped."""

    first_gradient: np.ndarray | None = None

    def gradients(self, step: Step) -> list[torch.Tensor]:
        result = super().gradients(step)
        if self.first_gradient is None:
            self.first_gradient = torch.cat([g.flatten() for g in result]).numpy().copy()
        return result


def of_learners(group: Any, what: Any) -> list[Any]:
    """What ``what`` says of each learner of a group."""
    return [result.get() for result in group.foreach_learner(what)]


def assert_same_parameters(group: Any) -> None:
    """The learners' networks are equal bit for bit."""
    first, *others = of_learners(group, lambda learner: {k: v.numpy() for k, v in learner.network.state_dict().items()})
    assert others
    for other in others:
        assert_same(other, first)
