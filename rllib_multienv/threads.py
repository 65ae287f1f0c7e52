"""How many threads torch may use in a Ray actor."""

from __future__ import annotations

import ray
import torch


def use_assigned_cpus() -> None:
    """Give torch as many threads as this actor was given CPUs; outside of actors change nothing.

    Two processes that each believe that they own all cores run many times slower than one alone.
    """
    if not ray.is_initialized():
        return
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return
    # An actor that serves as a placement-group trial may hold its CPUs through the group alone.
    cpus = context.get_assigned_resources().get("CPU", 0.0)
    torch.set_num_threads(max(1, round(cpus)))
