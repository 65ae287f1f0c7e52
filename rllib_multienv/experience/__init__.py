"""Artificial Experience: data sets and environments as one stream, chosen by tags and schedules.

Importing this room registers the data sets that come with scikit-learn with Gymnasium, as ``multienv/Digits-v0`` and so
on; importing ``rllib_multienv`` does so too. Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rllib_multienv.experience.bundled import BUNDLED

if TYPE_CHECKING:
    from rllib_multienv.envs.dataset import DatasetEnv as DatasetEnv
    from rllib_multienv.experience.ae_env import AEEnv as AEEnv
    from rllib_multienv.experience.ae_env import Step as Step
    from rllib_multienv.experience.registry import register_env as register_env
    from rllib_multienv.experience.registry import registered_envs as registered_envs
    from rllib_multienv.experience.registry import select as select
    from rllib_multienv.experience.schedule import SCHEDULES as SCHEDULES
    from rllib_multienv.experience.schedule import FromFunction as FromFunction
    from rllib_multienv.experience.schedule import Interleave as Interleave
    from rllib_multienv.experience.schedule import LearningProgress as LearningProgress
    from rllib_multienv.experience.schedule import RandomChoice as RandomChoice
    from rllib_multienv.experience.schedule import Regret as Regret
    from rllib_multienv.experience.schedule import Report as Report
    from rllib_multienv.experience.schedule import RoundRobin as RoundRobin
    from rllib_multienv.experience.schedule import Schedule as Schedule
    from rllib_multienv.experience.schedule import Staggered as Staggered
    from rllib_multienv.experience.schedule import Uniform as Uniform
    from rllib_multienv.experience.schedule import UntilDone as UntilDone
    from rllib_multienv.experience.schedule import randomized as randomized

_NAMES = {
    "envs.dataset": ["DatasetEnv"],
    "experience.ae_env": ["AEEnv", "Step"],
    "experience.registry": ["register_env", "registered_envs", "select"],
    "experience.schedule": [
        *("SCHEDULES", "FromFunction", "Interleave", "LearningProgress", "RandomChoice", "Regret", "Report"),
        *("RoundRobin", "Schedule", "Staggered", "Uniform", "UntilDone", "randomized"),
    ],
}
_HOMES = {name: f"rllib_multienv.{module}" for module, names in _NAMES.items() for name in names}
__all__ = ["BUNDLED", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
