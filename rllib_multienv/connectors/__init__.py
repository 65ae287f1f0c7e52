"""ConnectorV2 pieces: between environments and module, and between episodes and learner."""

from rllib_multienv.connectors.actions_to_env import ActionsToEnv
from rllib_multienv.connectors.episodes_to_batch import EpisodesToBatch
from rllib_multienv.connectors.flatten_observations import FlattenObservations
from rllib_multienv.connectors.generalized_advantages import GeneralizedAdvantages
from rllib_multienv.connectors.normalize_observations import NormalizeObservations
from rllib_multienv.connectors.observations_to_tensors import ObservationsToTensors
from rllib_multienv.connectors.pipelines import ModuleToMultiEnvPipeline, MultiEnvToModulePipeline
from rllib_multienv.connectors.proximal_policy import ProximalPolicy
from rllib_multienv.connectors.reward_scale import RewardScale
from rllib_multienv.connectors.sample_actions import SampleActions

__all__ = [
    "ActionsToEnv",
    "EpisodesToBatch",
    "FlattenObservations",
    "GeneralizedAdvantages",
    "ModuleToMultiEnvPipeline",
    "MultiEnvToModulePipeline",
    "NormalizeObservations",
    "ObservationsToTensors",
    "ProximalPolicy",
    "RewardScale",
    "SampleActions",
]
