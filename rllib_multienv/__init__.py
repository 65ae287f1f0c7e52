"""One reinforcement-learning agent for many unlike environments: a plugin of Ray RLlib.

Names are loaded when they are first used, so :class:`MultiEnvAgent` and the networks work without Ray. Once Ray Tune is
imported, it knows the algorithms by name: ``tune.Tuner("MultiEnvPPO", ...)``; Gymnasium knows the environments of
`tasks/`: ``gym.make("multienv/HopperVariant-v0")``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from rllib_multienv.agent import MultiEnvAgent as MultiEnvAgent
    from rllib_multienv.algorithms.dream import MultiEnvDREAM as MultiEnvDREAM
    from rllib_multienv.algorithms.dream import MultiEnvDREAMConfig as MultiEnvDREAMConfig
    from rllib_multienv.algorithms.hip_bmdp import MultiEnvHiPBMDP as MultiEnvHiPBMDP
    from rllib_multienv.algorithms.hip_bmdp import MultiEnvHiPBMDPConfig as MultiEnvHiPBMDPConfig
    from rllib_multienv.algorithms.iql import MultiEnvIQL as MultiEnvIQL
    from rllib_multienv.algorithms.iql import MultiEnvIQLConfig as MultiEnvIQLConfig
    from rllib_multienv.algorithms.maesn import MultiEnvMAESN as MultiEnvMAESN
    from rllib_multienv.algorithms.maesn import MultiEnvMAESNConfig as MultiEnvMAESNConfig
    from rllib_multienv.algorithms.maml import MultiEnvMAML as MultiEnvMAML
    from rllib_multienv.algorithms.maml import MultiEnvMAMLConfig as MultiEnvMAMLConfig
    from rllib_multienv.algorithms.pearl import MultiEnvPEARL as MultiEnvPEARL
    from rllib_multienv.algorithms.pearl import MultiEnvPEARLConfig as MultiEnvPEARLConfig
    from rllib_multienv.algorithms.ppo import MultiEnvPPO as MultiEnvPPO
    from rllib_multienv.algorithms.ppo import MultiEnvPPOConfig as MultiEnvPPOConfig
    from rllib_multienv.algorithms.sac import MultiEnvSAC as MultiEnvSAC
    from rllib_multienv.algorithms.sac import MultiEnvSACConfig as MultiEnvSACConfig
    from rllib_multienv.algorithms.varibad import MultiEnvVariBAD as MultiEnvVariBAD
    from rllib_multienv.algorithms.varibad import MultiEnvVariBADConfig as MultiEnvVariBADConfig
    from rllib_multienv.envs.dataset import DatasetEnv as DatasetEnv
    from rllib_multienv.experience.ae_env import AEEnv as AEEnv
    from rllib_multienv.nets import AgnosticNetConfig as AgnosticNetConfig
    from rllib_multienv.nets import CARENetConfig as CARENetConfig
    from rllib_multienv.nets import DistralNetConfig as DistralNetConfig
    from rllib_multienv.nets import DreamNetConfig as DreamNetConfig
    from rllib_multienv.nets import GeneratedNetConfig as GeneratedNetConfig
    from rllib_multienv.nets import HiPNetConfig as HiPNetConfig
    from rllib_multienv.nets import ImageEncoderConfig as ImageEncoderConfig
    from rllib_multienv.nets import MLPNetConfig as MLPNetConfig
    from rllib_multienv.nets import SingleNetConfig as SingleNetConfig
    from rllib_multienv.nets import SoftModularNetConfig as SoftModularNetConfig
    from rllib_multienv.nets import SpecificNetConfig as SpecificNetConfig
    from rllib_multienv.nets import TaskEncoderNetConfig as TaskEncoderNetConfig
    from rllib_multienv.nets import TaskHeadsNetConfig as TaskHeadsNetConfig
    from rllib_multienv.nets import TextEncoderConfig as TextEncoderConfig
    from rllib_multienv.spec import EnvSpec as EnvSpec
    from rllib_multienv.spec import SpaceSpec as SpaceSpec
    from rllib_multienv.tasks.meta_world import metaworld_mt10 as metaworld_mt10
    from rllib_multienv.tasks.meta_world import metaworld_mt25 as metaworld_mt25
    from rllib_multienv.tasks.meta_world import metaworld_mt50 as metaworld_mt50
    from rllib_multienv.worlds import WorldSpec as WorldSpec

__version__ = "1.0.0"

_NAMES = {
    "agent": ["MultiEnvAgent"],
    "algorithms.dream": ["MultiEnvDREAM", "MultiEnvDREAMConfig"],
    "algorithms.hip_bmdp": ["MultiEnvHiPBMDP", "MultiEnvHiPBMDPConfig"],
    "algorithms.iql": ["MultiEnvIQL", "MultiEnvIQLConfig"],
    "algorithms.maesn": ["MultiEnvMAESN", "MultiEnvMAESNConfig"],
    "algorithms.maml": ["MultiEnvMAML", "MultiEnvMAMLConfig"],
    "algorithms.pearl": ["MultiEnvPEARL", "MultiEnvPEARLConfig"],
    "algorithms.ppo": ["MultiEnvPPO", "MultiEnvPPOConfig"],
    "algorithms.sac": ["MultiEnvSAC", "MultiEnvSACConfig"],
    "algorithms.varibad": ["MultiEnvVariBAD", "MultiEnvVariBADConfig"],
    "envs.dataset": ["DatasetEnv"],
    "experience.ae_env": ["AEEnv"],
    "nets": [
        *("AgnosticNetConfig", "GeneratedNetConfig", "MLPNetConfig", "SingleNetConfig", "SpecificNetConfig"),
        *(
            "CARENetConfig",
            "DistralNetConfig",
            "DreamNetConfig",
            "HiPNetConfig",
            "SoftModularNetConfig",
            "TaskEncoderNetConfig",
            "TaskHeadsNetConfig",
        ),
        *("ImageEncoderConfig", "TextEncoderConfig"),
    ],
    "spec": ["EnvSpec", "SpaceSpec"],
    "tasks.meta_world": ["metaworld_mt10", "metaworld_mt25", "metaworld_mt50"],
    "worlds": ["WorldSpec"],
}
_HOMES = {name: f"rllib_multienv.{module}" for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)
_ALGORITHMS = tuple(
    f"MultiEnv{name}" for name in ("PPO", "IQL", "SAC", "VariBAD", "MAML", "MAESN", "PEARL", "DREAM", "HiPBMDP")
)
_REGISTRY = "ray.tune.registry"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Import:
    """Pickles as an instruction to import a name of this package, which Tune's registry follows on first use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (sys.modules[__name__], self._name)


def _register_with_tune() -> None:
    registry = sys.modules[_REGISTRY]
    for name in _ALGORITHMS:
        registry._global_registry.register(registry.TRAINABLE_CLASS, name, _Import(name))


def _register_environments() -> None:
    importlib.import_module("rllib_multienv.tasks")
    importlib.import_module("rllib_multienv.experience")


class _RunAfterImport(MetaPathFinder):
    """Runs an action as soon as a module is imported; importing it here would take long."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name, self._action = name, action

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute, action = spec.loader.exec_module, self._action

            def execute_and_act(module: ModuleType) -> None:
                execute(module)
                action()

            spec.loader.exec_module = execute_and_act  # type: ignore[method-assign]
        return spec


for _module, _action in ((_REGISTRY, _register_with_tune), ("gymnasium.envs", _register_environments)):
    if _module in sys.modules:
        _action()
    else:
        sys.meta_path.insert(0, _RunAfterImport(_module, _action))
