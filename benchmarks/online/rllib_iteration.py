"""An iteration of an algorithm of RLlib, ours included: ``train()`` as users call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
import torch
from competing import compete
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from settings import Setting, read_command_line


def compete_in_ray(configure: Callable[[Setting], Any]) -> None:
    """Build the algorithm of a setting's configuration, with the threads of the command line, and compete."""
    setting, threads = read_command_line()
    ray.init(num_cpus=threads, include_dashboard=False)
    algorithm = configure(setting).build_algo()
    torch.set_num_threads(threads)
    compete(iterations_of(algorithm), {"ray": ray.__version__, "torch": torch.__version__})


def iterations_of(algorithm: Any) -> Callable[[], int]:
    """A function that makes an iteration and returns how many environment steps it sampled."""
    sampled = 0

    def iterate() -> int:
        nonlocal sampled
        before = sampled
        sampled = int(algorithm.train()[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
        return sampled - before

    return iterate
