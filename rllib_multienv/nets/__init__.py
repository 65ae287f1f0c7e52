"""Networks in pure PyTorch: policies and value functions for any mixture of environments."""

from .action_values import ActionValues, build_action_values
from .actor_critic import ActorCritic, Interface
from .agnostic import AgnosticActorCritic, AgnosticNetConfig
from .config import NetConfig, net_config_from_dict
from .context import with_named_rows
from .distributions import ActionDistribution, Categorical, Deterministic, DiagGaussian, distribution_for
from .env_parts import env_key, environment_of, owning_environments
from .mlp import MLPActorCritic, MLPNetConfig
from .single import SingleActorCritic, SingleNetConfig
from .specific import SpecificActorCritic, SpecificNetConfig

__all__ = [
    "ActionDistribution",
    "ActionValues",
    "ActorCritic",
    "AgnosticActorCritic",
    "AgnosticNetConfig",
    "Categorical",
    "Deterministic",
    "DiagGaussian",
    "Interface",
    "MLPActorCritic",
    "MLPNetConfig",
    "NetConfig",
    "SingleActorCritic",
    "SingleNetConfig",
    "SpecificActorCritic",
    "SpecificNetConfig",
    "build_action_values",
    "distribution_for",
    "env_key",
    "environment_of",
    "net_config_from_dict",
    "owning_environments",
    "with_named_rows",
]
