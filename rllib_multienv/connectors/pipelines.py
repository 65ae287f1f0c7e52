"""RLlib's connector pipelines for batches keyed by environment."""

from __future__ import annotations

from typing import Any

from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline

from rllib_multienv.rollout import EpisodeView


class _MultiEnvPipeline(ConnectorPipelineV2):
    """Calls its pieces in order, and merges their states by name.

    RLlib 2.60 gives the states of the n-th piece *that has a state* to the n-th piece for merging.
    """

    def __call__(self, *, batch: dict[str, Any], metrics: Any = None, **kwargs: Any) -> Any:
        """Call the pieces; RLlib's timers of every piece are kept only where there are metrics to log them to."""
        if metrics is not None:
            return ConnectorPipelineV2.__call__(self, batch=batch, metrics=metrics, **kwargs)
        for piece in self.connectors:
            batch = piece(batch=batch, data=batch, metrics=None, **kwargs)
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
        return batch
