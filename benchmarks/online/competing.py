"""How a competitor of benchmarks/online_ppo.py makes its iterations: two at once, then as the referee says.

Its steps are counted, not believed: those of the optimiser by a hook in PyTorch, which all competitors use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.insert(0, str(Path(__file__).parents[1] / "offline"))
from turns import serve


def compete(iterate: Callable[[], int], versions: dict[str, str]) -> None:
    """Warm up, count what an iteration does, and serve.

    Args:
        iterate: makes one iteration of sampling and training and returns how many environment steps that were.
        versions: of the libraries that this competitor is made of.
    """
    iterate()
    env_steps, gradient_steps = count_steps(iterate)

    def step(iterations: int) -> None:
        for _ in range(iterations):
            iterate()

    serve(step, {**versions, "env_steps": str(env_steps), "gradient_steps": str(gradient_steps)})


def count_steps(iterate: Callable[[], int]) -> tuple[int, int]:
    """Environment steps and optimiser steps of one iteration."""
    gradient_steps = 0

    def count(*_: Any) -> None:
        nonlocal gradient_steps
        gradient_steps += 1

    hook = register_optimizer_step_post_hook(count)
    env_steps = iterate()
    hook.remove()
    return env_steps, gradient_steps
