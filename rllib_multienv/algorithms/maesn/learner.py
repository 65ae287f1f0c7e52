"""The learner of MAESN: MAML's, with a learning rate of their own for latents and step sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from rllib_multienv.algorithms.maml.learner import MultiEnvMAMLLearner
from rllib_multienv.inner_loop import StepSizes, start_parameters


class MultiEnvMAESNLearner(MultiEnvMAMLLearner):
    """Differentiates steps on the latents of tasks: by the policy, the latents before the step, and the step sizes."""

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """The policy; latents and step sizes."""
        rates = self.config.learning_rates()
        yield "actor", list(start_parameters(self.network).values()), rates["actor"]
        sizes: Any = StepSizes.of(self.network)
        yield "latents", [*self.module.shared.latents.parameters(), *sizes.values()], rates["latents"]
