"""Networks in pure PyTorch: policies and value functions for any mixture of environments.

To add a network, write a file with its `NetConfig`, `ActorCritic` and, if the default does not do, `ActionValues`, and
import it here: files and checkpoints then know it by the config's ``type``.
"""

from .action_values import ActionValues, NetworkActionValues
from .actor_critic import ActorCritic, OneEnvironmentActorCritic, Outputs, Part
from .agnostic import AgnosticActorCritic, AgnosticNetConfig
from .care import CARENetConfig, MixtureOfEncoders
from .config import NetConfig, net_config_from_dict
from .distral import DistralActorCritic, DistralNetConfig
from .dream import DreamActorCritic, DreamNetConfig
from .encoders import ImageEncoderConfig, TextEncoderConfig
from .generated import GeneratedActorCritic, GeneratedNetConfig
from .heads import (
    MASKED_LOGIT,
    ActionDistribution,
    Categorical,
    Deterministic,
    DiagGaussian,
    Product,
    SquashedGaussian,
    distribution_for,
)
from .hip import HiPActorCritic, HiPNetConfig
from .interface import Inputs, Interface
from .memory import Memory, State
from .mlp import MLPActorCritic, MLPNetConfig
from .parameters import (
    env_key,
    environment_of,
    frozen_parameters,
    is_in_parts,
    owning_environments,
    parameters_of_parts,
)
from .posterior import Posterior, PosteriorActorCritic, PosteriorNetConfig
from .single import SingleActorCritic, SingleNetConfig
from .size import num_parameters, same_size
from .soft_modular import SoftModularNetConfig, SoftModules
from .specific import SpecificActorCritic, SpecificNetConfig
from .task_encoder import TaskEncoder, TaskEncoderNetConfig
from .task_heads import TaskHeadsActorCritic, TaskHeadsNetConfig

__all__ = [
    "MASKED_LOGIT",
    "ActionDistribution",
    "ActionValues",
    "ActorCritic",
    "AgnosticActorCritic",
    "AgnosticNetConfig",
    "CARENetConfig",
    "Categorical",
    "Deterministic",
    "DiagGaussian",
    "DistralActorCritic",
    "DistralNetConfig",
    "DreamActorCritic",
    "DreamNetConfig",
    "GeneratedActorCritic",
    "GeneratedNetConfig",
    "HiPActorCritic",
    "HiPNetConfig",
    "ImageEncoderConfig",
    "Inputs",
    "Interface",
    "MLPActorCritic",
    "MLPNetConfig",
    "Memory",
    "MixtureOfEncoders",
    "NetConfig",
    "NetworkActionValues",
    "OneEnvironmentActorCritic",
    "Outputs",
    "Part",
    "Posterior",
    "PosteriorActorCritic",
    "PosteriorNetConfig",
    "Product",
    "SingleActorCritic",
    "SingleNetConfig",
    "SoftModularNetConfig",
    "SoftModules",
    "SpecificActorCritic",
    "SpecificNetConfig",
    "SquashedGaussian",
    "State",
    "TaskEncoder",
    "TaskEncoderNetConfig",
    "TaskHeadsActorCritic",
    "TaskHeadsNetConfig",
    "TextEncoderConfig",
    "distribution_for",
    "env_key",
    "environment_of",
    "frozen_parameters",
    "is_in_parts",
    "net_config_from_dict",
    "num_parameters",
    "owning_environments",
    "parameters_of_parts",
    "same_size",
]
