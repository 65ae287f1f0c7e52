"""PPO's shared module: values in each environment's own unit."""

from __future__ import annotations

from torch import Tensor

from rllib_multienv.modules import SharedModule
from rllib_multienv.nets import Outputs


class PPOSharedModule(SharedModule):
    """The network's values may be in units of each environment's value targets (``value_normalization="running"``).

    Attributes:
        value_moments: Mean and deviation of the values of environments that have their own unit.
    """

    def setup(self) -> None:
        """Build the network; at first all values are in the unit of rewards."""
        super().setup()
        self.value_moments: dict[str, tuple[float, float]] = {}

    def _values(self, outputs: Outputs) -> dict[str, Tensor]:
        values = super()._values(outputs)
        for env_id, (mean, std) in self.value_moments.items():
            if env_id in values:
                values[env_id] = values[env_id] * std + mean
        return values
