"""One reinforcement-learning agent for many unlike environments: a plugin of Ray RLlib.

Where Ray is installed, importing this package registers its algorithms with Ray Tune:
``tune.Tuner("MultiEnvPPO", ...)`` works. Where it is not, the networks and :class:`MultiEnvAgent` do; names are
loaded when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_multienv.agent import MultiEnvAgent
    from rllib_multienv.algorithms.iql import MultiEnvIQL, MultiEnvIQLConfig
    from rllib_multienv.algorithms.ppo import MultiEnvPPO, MultiEnvPPOConfig
    from rllib_multienv.nets import AgnosticNetConfig, MLPNetConfig, SingleNetConfig, SpecificNetConfig
    from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = [
    "AgnosticNetConfig",
    "EnvSpec",
    "MLPNetConfig",
    "MultiEnvAgent",
    "MultiEnvIQL",
    "MultiEnvIQLConfig",
    "MultiEnvPPO",
    "MultiEnvPPOConfig",
    "SingleNetConfig",
    "SpaceSpec",
    "SpecificNetConfig",
]

_HOMES = {
    "AgnosticNetConfig": "rllib_multienv.nets",
    "EnvSpec": "rllib_multienv.spec",
    "MLPNetConfig": "rllib_multienv.nets",
    "MultiEnvAgent": "rllib_multienv.agent",
    "MultiEnvIQL": "rllib_multienv.algorithms.iql",
    "MultiEnvIQLConfig": "rllib_multienv.algorithms.iql",
    "MultiEnvPPO": "rllib_multienv.algorithms.ppo",
    "MultiEnvPPOConfig": "rllib_multienv.algorithms.ppo",
    "SingleNetConfig": "rllib_multienv.nets",
    "SpaceSpec": "rllib_multienv.spec",
    "SpecificNetConfig": "rllib_multienv.nets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_with_tune() -> None:
    from ray.tune.registry import register_trainable

    from rllib_multienv.algorithms.iql import MultiEnvIQL
    from rllib_multienv.algorithms.ppo import MultiEnvPPO

    register_trainable("MultiEnvPPO", MultiEnvPPO)
    register_trainable("MultiEnvIQL", MultiEnvIQL)


def _has_ray() -> bool:
    try:
        return importlib.util.find_spec("ray") is not None
    except ImportError:
        return False


if _has_ray():
    _register_with_tune()
