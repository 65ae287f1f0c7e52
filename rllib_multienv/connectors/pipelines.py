"""RLlib's connector pipelines for batches keyed by environment."""

from __future__ import annotations

from typing import Any

from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
from ray.rllib.utils.metrics import CONNECTOR_PIPELINE_TIMER, CONNECTOR_TIMERS, TIMERS
from ray.rllib.utils.metrics.utils import to_snake_case

from rllib_multienv.rollout import EpisodeView


def is_users(piece: ConnectorV2) -> bool:
    """Whether a piece is not of this package."""
    return not type(piece).__module__.startswith("rllib_multienv.")


def check_returned(piece: ConnectorV2, batch: Any) -> None:
    """Raise a TypeError if what a piece returned is no batch."""
    if not isinstance(batch, dict):
        raise TypeError(
            f"Connector {type(piece).__name__} returned {type(batch).__name__}: its __call__ must end with "
            "`return batch`."
        )


def _check_batch(piece: ConnectorV2, batch: Any, shapes: dict[tuple[str, str], Any]) -> None:
    """Check that a piece returned all environments, each with columns of the same shapes as before."""
    check_returned(piece, batch)
    for (env_id, name), shape in shapes.items():
        place = f"Connector {type(piece).__name__} returned a batch in which batch[{env_id!r}]"
        if env_id not in batch or name not in batch[env_id]:
            raise ValueError(f"{place}[{name!r}] is missing; it may be replaced, but not removed.")
        now = getattr(batch[env_id][name], "shape", None)
        if now != shape:
            raise ValueError(f"{place}[{name!r}] has shape {now}; it must be {tuple(shape)}, as before.")


class _MultiEnvPipeline(ConnectorPipelineV2):
    """Calls its pieces in order, and merges their states by name.

    RLlib 2.60 gives the states of the n-th piece *that has a state* to the n-th piece for merging.
    """

    def __call__(self, *, batch: dict[str, Any], metrics: Any = None, **kwargs: Any) -> Any:
        """Call the pieces; only where there are metrics, which is where users have pieces, time and check them.

        Raises:
            TypeError: A user's piece returns something else than the batch.
            ValueError: A user's piece has removed environments, or changed the shape of what it was given.
        """
        if metrics is None:
            for piece in self.connectors:
                batch = piece(batch=batch, data=batch, metrics=None, **kwargs)
            return batch
        with metrics.log_time((CONNECTOR_PIPELINE_TIMER,)):
            for piece in self.connectors:
                shapes = {
                    (env_id, name): getattr(column, "shape", None)
                    for env_id, columns in batch.items()
                    for name, column in columns.items()
                }
                with metrics.log_time((TIMERS, CONNECTOR_TIMERS, to_snake_case(type(piece).__name__))):
                    batch = piece(batch=batch, data=batch, metrics=metrics, **kwargs)
                if is_users(piece):
                    _check_batch(piece, batch, shapes)
        return batch

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """Each piece's own states, merged by that piece; pieces that give nothing back are left out."""
        merged = {}
        for piece in self.connectors:
            name = type(piece).__name__
            own = [state[name] for state in states if name in state]
            result = piece.merge_states(own) if own else None
            if result:
                merged[name] = result
        return merged


class MultiEnvToModulePipeline(_MultiEnvPipeline, EnvToModulePipeline):
    """Pieces between environments and module."""


class ModuleToMultiEnvPipeline(_MultiEnvPipeline, ModuleToEnvPipeline):
    """Pieces between module and environments."""


class RolloutConnector(ConnectorV2):
    """A learner connector that works on rollouts: it is called with ``rollouts={env_id: [Rollout, ...]}``.

    It may replace entries of that dictionary, which later pieces see.
    """


class MultiEnvLearnerPipeline(_MultiEnvPipeline, LearnerConnectorPipeline):
    """Pieces between rollouts and learner; the user's come first.

    Pieces that are no :class:`RolloutConnector` get RLlib's ``episodes``, made from the rollouts. What they change in
    the episodes is in the rollouts that later pieces get.
    """

    def __call__(self, *, batch: dict[str, Any], metrics: Any = None, **kwargs: Any) -> Any:
        """Call the pieces one after another."""
        kwargs["metrics"] = metrics
        current, view = dict(kwargs.pop("rollouts")), None
        for piece in self.connectors:
            if isinstance(piece, RolloutConnector):
                if view is not None:
                    current, view = view.changed_rollouts(), None
                batch = piece(batch=batch, rollouts=current, **kwargs)
            else:
                view = view or EpisodeView(current)
                batch = piece(batch=batch, data=batch, episodes=view.episodes, **kwargs)
            check_returned(piece, batch)
        return batch
