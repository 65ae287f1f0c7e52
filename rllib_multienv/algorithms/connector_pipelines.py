"""The connector pipelines between environments and module, as a configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2

from rllib_multienv.connectors import (
    ActionsToEnv,
    FlattenObservations,
    ModuleToMultiEnvPipeline,
    MultiEnvLearnerPipeline,
    MultiEnvToModulePipeline,
    NormalizeObservations,
    ObservationsToTensors,
    RewardScale,
    SampleActions,
)
from rllib_multienv.spec import SpaceSpec

INPUT_ENV_SINGLE_SPACES = "__env_single__"


class ConnectorPipelinesMixin(AlgorithmConfig):
    """Builds the pipelines of runners and evaluation: the user's pieces first, then this package's own.

    The configuration that it is mixed into has ``env_specs`` and ``num_rows(spec)`` too.

    Attributes:
        space_specs: spaces of the environments, by env id.
        normalize_obs, normalize_rewards: whether observations and rewards are normalised.
    """

    space_specs: dict[str, SpaceSpec]
    normalize_obs: bool
    normalize_rewards: bool

    @property
    def has_custom_connectors(self) -> bool:
        """Whether the user added connector pieces between environments and module."""
        return self._env_to_module_connector is not None or self._module_to_env_connector is not None

    def _connector_spaces(self, spaces: Mapping[str, Any] | None) -> dict[str, Any]:
        """For users' connectors: the spaces by env id, and their dictionary as the input space of the pipeline."""
        return {
            **(spaces or {}),
            INPUT_ENV_SINGLE_SPACES: (
                gym.spaces.Dict({env_id: spec.observation_space for env_id, spec in self.space_specs.items()}),
                gym.spaces.Dict({env_id: spec.action_space for env_id, spec in self.space_specs.items()}),
            ),
        }

    def build_env_to_module_connector(self, env: Any = None, spaces: Any = None, device: Any = None) -> ConnectorV2:
        """The user's pieces, then flatten, normalise and convert to tensors."""
        users = super().build_env_to_module_connector(None, self._connector_spaces(spaces), device)
        pipeline = MultiEnvToModulePipeline(
            users.input_observation_space, users.input_action_space, connectors=users.connectors
        )
        pipeline.append(FlattenObservations(space_specs=self.space_specs))
        if self.normalize_obs:
            pipeline.append(NormalizeObservations(space_specs=self.space_specs))
        if self.normalize_rewards:
            pipeline.append(
                RewardScale(
                    num_envs={spec.id: self.num_rows(spec) for spec in self.env_specs},
                    gammas={spec.id: self.get_config_for_module(spec.id).gamma for spec in self.env_specs},
                )
            )
        pipeline.append(ObservationsToTensors(space_specs=self.space_specs, device=device))
        return pipeline

    def build_module_to_env_connector(
        self, env: Any = None, spaces: Any = None, *, seed: int | None = None, device: Any = None
    ) -> ConnectorV2:
        """The user's pieces, then sample actions and convert them for the environments."""
        users = super().build_module_to_env_connector(None, self._connector_spaces(spaces))
        pipeline = ModuleToMultiEnvPipeline(
            users.input_observation_space, users.input_action_space, connectors=users.connectors
        )
        pipeline.append(SampleActions(space_specs=self.space_specs, seed=seed, device=device))
        pipeline.append(ActionsToEnv(space_specs=self.space_specs))
        return pipeline

    def build_learner_connector(
        self, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
    ) -> ConnectorV2:
        """The user's pieces; algorithms add theirs."""
        users = super().build_learner_connector(input_observation_space, input_action_space, device)
        return MultiEnvLearnerPipeline(
            users.input_observation_space, users.input_action_space, connectors=users.connectors
        )
