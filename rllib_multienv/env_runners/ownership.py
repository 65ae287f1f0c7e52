"""Which remote runner samples which environments, also while some runners are away."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from rllib_multienv.env_runners.assignment import assign_environments

logger = logging.getLogger("ray.rllib")

#: A runner that died usually comes back within seconds; after so many, others take over its environments.
ORPHANED_AFTER_S = 60.0


class Ownership:
    """The assignment of environments to runners.

    While a runner is away its environments are not sampled. If it stays away (its node is gone, and no other has room
    for it), all environments are assigned to the runners that are left; when one comes back, to all again.
    """

    def __init__(self, *, costs: Mapping[str, float], workers: Sequence[int]) -> None:
        """Set up.

        Args:
            costs: Cost of each environment.
            workers: Indices of the runners.
        """
        self._costs = dict(costs)
        self._away_since: float | None = None
        self._assign(workers)

    def _assign(self, workers: Sequence[int]) -> None:
        parts = assign_environments(self._costs, len(workers))
        self._owned = dict(zip(sorted(workers), parts, strict=True))

    def change(self, costs: Mapping[str, float]) -> None:
        """The environments of the run are others now."""
        self._costs = dict(costs)
        self._assign(list(self._owned))

    def owned(self, present: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """What each runner is to sample now.

        Args:
            present: Indices of the runners that can be asked.
        """
        away = self._owned.keys() - set(present)
        if not away:
            self._away_since = None
            if present and set(present) != self._owned.keys():
                self._assign(present)
        elif self._away_since is None:
            self._away_since = time.monotonic()
        elif present and time.monotonic() - self._away_since > ORPHANED_AFTER_S:
            logger.warning(
                "Env runners %s have been away for %g s; the others take over %s.",
                sorted(away),
                ORPHANED_AFTER_S,
                ", ".join(sorted({env_id for worker in away for env_id in self._owned[worker]})),
            )
            self._assign(present)
            self._away_since = None
        return {worker: env_ids for worker, env_ids in self._owned.items() if worker in present}

    def unsampled(self, present: Sequence[int]) -> list[str]:
        """Environments of the runners that are away."""
        return [env_id for worker, ids in self._owned.items() if worker not in present for env_id in ids]

    def describe(self) -> str:
        """One line for each runner: its environments."""
        return "\n".join(f"env runner {worker}: {', '.join(ids)}" for worker, ids in sorted(self._owned.items()))
