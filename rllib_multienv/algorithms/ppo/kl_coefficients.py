"""How strongly the policy of each environment is held to the one that sampled.

PPO's clipped objective takes away what an environment's own steps could gain by moving its policy far. In a shared
network the steps of all the others move it too, and clipping does not see that. A penalty on the KL divergence does:
however the policy was moved, it has a gradient back.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A coefficient stays between these: so small it has no effect, and grows back within a few updates.
SMALLEST, LARGEST = 1e-3, 1e3


class KLCoefficients:
    """A coefficient of the KL divergence for each environment, adapted to a target (Schulman et al. 2017, section 4).

    The steps are RLlib's: half of it where the divergence is below half of the target, one and a half where it is above
    twice the target.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def of(self, env_id: str, initial: float) -> float:
        """The coefficient of an environment; ``initial`` before its first update."""
        return self._values.get(env_id, initial)

    def adapt(self, env_id: str, divergence: float, *, initial: float, target: float) -> float:
        """Change the coefficient of an environment after an update, and return it.

        Args:
            env_id: The environment.
            divergence: Mean KL divergence of its policy from the one that sampled; NaN changes nothing.
            initial: See :meth:`of`; zero stays zero.
            target: Divergence aimed at.
        """
        value = self.of(env_id, initial)
        if divergence > 2.0 * target:
            value *= 1.5
        elif divergence < 0.5 * target:
            value *= 0.5
        self._values[env_id] = min(max(value, SMALLEST), LARGEST) if value > 0.0 else 0.0
        return self._values[env_id]

    def get_state(self) -> dict[str, float]:
        """The coefficients by environment."""
        return dict(self._values)

    def set_state(self, state: Mapping[str, float]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._values = dict(state)
