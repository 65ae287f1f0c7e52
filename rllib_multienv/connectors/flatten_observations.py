"""Env-to-module piece: raw observations become flat float vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_multienv.spec import SpaceSpec


class FlattenObservations(ConnectorV2):
    """Replaces ``{env_id: {"obs": raw [B, ...]}}`` by ``{env_id: {"obs": float32 [B, I]}}``."""

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.space_specs = dict(space_specs)

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Flatten by each environment's :class:`~rllib_multienv.spec.SpaceSpec`."""
        for env_id, columns in batch.items():
            columns[Columns.OBS] = self.space_specs[env_id].flatten_obs(columns[Columns.OBS])
        return batch
