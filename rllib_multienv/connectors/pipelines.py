"""RLlib's pipelines, with what of them does not hold for this package put right."""

from __future__ import annotations

from typing import Any

from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline


class _MergesByName(ConnectorPipelineV2):
    """RLlib 2.60 gives the states of the n-th piece *that has a state* to the n-th piece for merging."""

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


class MultiEnvToModulePipeline(_MergesByName, EnvToModulePipeline):
    """Pieces between environments and module; calls have no episodes whose lengths could be logged."""

    def __call__(self, **kwargs: Any) -> Any:
        """Call the pieces one after the other."""
        return ConnectorPipelineV2.__call__(self, **kwargs)


class ModuleToMultiEnvPipeline(_MergesByName, ModuleToEnvPipeline):
    """Pieces between module and environments."""
