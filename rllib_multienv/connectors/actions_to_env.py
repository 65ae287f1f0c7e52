"""Module-to-env piece: actions as the environments want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from rllib_multienv.spec import SpaceSpec


class ActionsToEnv(ConnectorV2):
    """Adds ``"actions_for_env"``: clipped, un-squashed to the space's bounds, in the space's shape and dtype."""

    def __init__(self, *, space_specs: Mapping[str, SpaceSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.space_specs = dict(space_specs)

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Convert where a (user's) piece before this one has not done so already."""
        for env_id, columns in batch.items():
            if Columns.ACTIONS_FOR_ENV not in columns:
                columns[Columns.ACTIONS_FOR_ENV] = self.space_specs[env_id].action_to_env(columns[Columns.ACTIONS])
        return batch
