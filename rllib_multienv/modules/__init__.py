"""The RLModules: one shared module that owns all parameters, and a thin view of it for each environment."""

from rllib_multienv.modules.env_view import EnvView
from rllib_multienv.modules.multi_env_module import SHARED_MODULE, MultiEnvModule, multi_env_module_spec
from rllib_multienv.modules.network_parts import frozen_parameters, is_in_parts, parameters_of_parts
from rllib_multienv.modules.shared_module import SharedModule

__all__ = [
    "SHARED_MODULE",
    "EnvView",
    "MultiEnvModule",
    "SharedModule",
    "frozen_parameters",
    "is_in_parts",
    "multi_env_module_spec",
    "parameters_of_parts",
]
