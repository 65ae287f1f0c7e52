"""What a user of RLlib may bring: a callback and a connector piece."""

from __future__ import annotations

from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2


class CountEpisodes(RLlibCallback):
    """Logs finished episodes and training results of its own."""

    def on_episode_end(self, *, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value(("my_episodes", episode.module_id), 1, reduce="sum")

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        result["my_rate"] = algorithm.config.actor_lr


class HalveObservations(ConnectorV2):
    """Env-to-module piece that changes raw observations and logs how many it saw."""

    def __call__(self, *, batch: dict[str, Any], metrics: Any = None, **kwargs: Any) -> dict[str, Any]:
        for env_id, columns in batch.items():
            columns["obs"] = columns["obs"] * 0.5
            metrics.log_value(("my_rows", env_id), len(columns["obs"]), reduce="sum")
        return batch


def make_halve_observations(env: Any = None, spaces: Any = None, device: Any = None) -> ConnectorV2:
    return HalveObservations()
