"""Copies with NEXT_STEP autoreset without EnvPool, the only backend that has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toy_envs import Counter

from rllib_multienv.envs import envpool_backend
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import EnvSpec


def next_step_counters(num_envs: int) -> EnvCopies:
    """Copies of `Counter` with NEXT_STEP autoreset, stepped as those of EnvPool are."""

    def make_vector(spec: EnvSpec, num_envs: int, seeds: Any) -> Any:
        env = SyncVectorEnv([Counter] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)
        single = {"observation_space": env.single_observation_space, "action_space": env.single_action_space}
        return SimpleNamespace(reset=env.reset, step=env.step, close=env.close, **single)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envpool_backend, "make_envpool", make_vector)
        return EnvCopies(EnvSpec("counter", make="toy_envs:Counter", backend="envpool"), num_envs)
