"""Env-to-module piece: running normalisation of observations, per environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_multienv.normalization import Moments, ObservationNormalizer
from rllib_multienv.spec import SpaceSpec


class NormalizeObservations(ConnectorV2):
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

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """``{env_id: {"base": moments, "delta": moments}}``."""
        return {
            env_id: {"base": n.moments.base.to_dict(), "delta": n.moments.delta.to_dict()}
            for env_id, n in self.normalizers.items()
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; environments that this connector does not know are ignored."""
        for env_id, moments in state.items():
            if env_id in self.normalizers:
                shared = self.normalizers[env_id].moments
                shared.base = Moments.from_dict(moments["base"])
                shared.delta = Moments.from_dict(moments["delta"])

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """This connector's base with the deltas of all ``states``: the exact statistics of all runners together."""
        merged = {}
        for env_id, normalizer in self.normalizers.items():
            shared = normalizer.moments
            total = shared.merge_deltas(Moments.from_dict(s[env_id]["delta"]) for s in states if env_id in s)
            merged[env_id] = {
                "base": total.to_dict(),
                "delta": Moments.empty(len(total.mean)).to_dict(),
            }
        return merged
