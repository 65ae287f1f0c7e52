"""The shared module of agents that adapt by gradients, with learned step sizes where these are wanted."""

from __future__ import annotations

from rllib_multienv.inner_loop import StepSizes, start_parameters
from rllib_multienv.modules import SharedModule


class MAMLSharedModule(SharedModule):
    """``model_config["learned_step_size"]`` is where learned step sizes start; None: they are not learned."""

    def setup(self) -> None:
        """Build the network."""
        super().setup()
        if (start := self.model_config["learned_step_size"]) is not None:
            StepSizes.add_to(self.network, start_parameters(self.network), start)
