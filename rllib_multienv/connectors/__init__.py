"""ConnectorV2 pieces: between environments and module, and between rollouts and learner."""

from rllib_multienv.connectors.actions import ActionsToEnv, RandomActions, SampleActions
from rllib_multienv.connectors.advantages import GeneralizedAdvantages, generalized_advantages
from rllib_multienv.connectors.normalize import (
    FlattenObservations,
    NormalizeObservations,
    ObservationsToTensors,
    RewardScale,
    SharedStatistics,
)
from rllib_multienv.connectors.pipelines import (
    ModuleToMultiEnvPipeline,
    MultiEnvLearnerPipeline,
    MultiEnvToModulePipeline,
    RolloutConnector,
)

__all__ = [
    "ActionsToEnv",
    "FlattenObservations",
    "GeneralizedAdvantages",
    "ModuleToMultiEnvPipeline",
    "MultiEnvLearnerPipeline",
    "MultiEnvToModulePipeline",
    "NormalizeObservations",
    "ObservationsToTensors",
    "RandomActions",
    "RewardScale",
    "RolloutConnector",
    "SampleActions",
    "SharedStatistics",
    "generalized_advantages",
]
