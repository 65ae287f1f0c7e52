"""The RLModules: one shared module that owns all parameters, and a thin view of it for each environment."""

from rllib_multienv.modules.multi_env_module import SHARED_MODULE, EnvView, MultiEnvModule, multi_env_module_spec
from rllib_multienv.modules.shared_module import SharedModule

__all__ = [
    "SHARED_MODULE",
    "EnvView",
    "MultiEnvModule",
    "SharedModule",
    "multi_env_module_spec",
]
