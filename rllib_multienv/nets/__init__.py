"""Networks in pure PyTorch: policies and value functions for any mixture of environments."""

from .action_values import ActionValues, build_action_values
from .actor_critic import ActorCritic, Interface
from .agnostic import AgnosticActorCritic, AgnosticNetConfig
from .config import NetConfig, net_config_from_dict
from .distributions import ActionDistribution, Categorical, Deterministic, DiagGaussian, distribution_for
from .mlp import MLPActorCritic, MLPNetConfig

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
    "build_action_values",
    "distribution_for",
    "net_config_from_dict",
]
