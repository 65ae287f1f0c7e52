"""Env-to-module piece: arrays become tensors on the module's device."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns


class ObservationsToTensors(ConnectorV2):
    """Replaces ``{env_id: {"obs": float32 array}}`` by tensors."""

    def __init__(self, *, device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device = device or "cpu"

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Convert without a copy where the device is the CPU."""
        for columns in batch.values():
            columns[Columns.OBS] = torch.from_numpy(columns[Columns.OBS]).to(self.device)
        return batch
