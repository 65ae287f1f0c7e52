"""Whether this machine has the GPUs that a trial asks for; without them it would wait for ever."""

from __future__ import annotations

import os
from typing import Any


def check_gpus(config: Any) -> None:
    """Compares the GPUs that a trial of `config` asks for with those of this machine.

    Ray does not start a trial before it has all that the trial asks for, and says so only in its log. CPUs are no
    problem: Ray counts them and does not bind to them, so the command line lets it count enough. A cluster that is
    given by ``RAY_ADDRESS`` may grow, and is left alone.

    Raises:
        ValueError: There are too few GPUs; with the setting that asks for them.
    """
    import ray
    import torch

    if os.environ.get("RAY_ADDRESS") or ray.is_initialized():
        return
    request = config.algo_class.default_resource_request(config)
    needed = sum(bundle.get("GPU", 0) for bundle in request.bundles)
    available = torch.cuda.device_count()
    if needed > available:
        raise ValueError(
            f"the file asks for {needed:g} GPUs and this machine has {available}; "
            "--set learners.num_gpus_per_learner=0 trains without any"
        )
