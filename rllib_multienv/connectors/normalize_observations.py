"""Env-to-module piece: running normalisation of observations, per environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns

from rllib_multienv.connectors.shared_statistics import SharedStatistics
from rllib_multienv.normalization import ObservationNormalizer, SharedMoments
from rllib_multienv.spec import SpaceSpec


class NormalizeObservations(SharedStatistics):
    """Maps ``{env_id: {"obs": [B, I]}}`` to zero mean and unit variance by statistics kept per env id.

    While :attr:`counting`, each call's observations are remembered; :meth:`commit`, at the end of a fragment, adds them
    to the statistics. RLlib merges the states of all runners after each iteration and sends the result back.
    """

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalizers = {env_id: ObservationNormalizer(spec.obs_size) for env_id, spec in space_specs.items()}
        self.counting = False
        self._seen: dict[str, list[np.ndarray]] = {}

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Normalise each environment's observations."""
        for env_id, columns in batch.items():
            observations = columns[Columns.OBS]
            if self.counting:
                self._seen.setdefault(env_id, []).append(observations)
            columns[Columns.OBS] = self.normalizers[env_id](observations)
        return batch

    def freeze(self) -> None:
        """Use everything counted so far from now on, unchanged until the next call."""
        for normalizer in self.normalizers.values():
            normalizer.freeze()

    def commit(self, valid: Mapping[str, np.ndarray]) -> None:
        """Add what was seen since the last call to the statistics.

        Args:
            valid: ``{env_id: [T, B]}``, which of the observations of the T calls were acted on. The others are the last
                of an episode, shown once more while the copy is being reset (NEXT_STEP autoreset).
        """
        for env_id, seen in self._seen.items():
            self.normalizers[env_id].moments.add(np.stack(seen)[valid[env_id]])
        self._seen.clear()

    def discard(self, env_id: str) -> None:
        """Forget what was seen of ``env_id`` since the last commit (its fragment is lost)."""
        self._seen.pop(env_id, None)

    def moments(self) -> Mapping[str, SharedMoments]:
        """Statistics of each environment's observations."""
        return {env_id: normalizer.moments for env_id, normalizer in self.normalizers.items()}
