"""Previous inputs: numbers about the episode so far that networks may see beside each observation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rllib_multienv.spaces.rows import ActionRow

__all__ = ["ALL_INPUTS", "INPUTS", "SEED_SIZE", "is_input", "noise_size", "previous_names"]

#: The action that was taken, the reward that came of it, and whether an episode of a trial ended with it.
INPUTS = ("previous_action", "previous_reward", "previous_done")
#: Also log(1 + time steps since the episode began, or the trial), and `SEED_SIZE` random numbers, N(0, 1), that stay
#: the same for as long: with them rows that see the same can differ (Dimakopoulou & Van Roy 2018, arXiv 1802.01282).
ALL_INPUTS = (*INPUTS, "age", "seed")
#: Random numbers of a row.
SEED_SIZE = 4
_SIZED = re.compile(r"(noise|latent):([1-9]\d*)")


def is_input(name: str) -> bool:
    """Whether environments can give this input: one of `ALL_INPUTS`, or ``"noise:D"``.

    The latter are D random numbers, N(0, 1), that are drawn anew for each episode of a trial.
    """
    return name in ALL_INPUTS or (name.startswith("noise:") and _SIZED.fullmatch(name) is not None)


def noise_size(inputs: Sequence[str]) -> int:
    """D of ``"noise:D"``; 0 without."""
    return sum(int(found[2]) for one in inputs if (found := _SIZED.fullmatch(one)) and found[1] == "noise")


def previous_names(inputs: Sequence[str], action: ActionRow, action_names: Sequence[str]) -> tuple[str, ...]:
    """Words for each of these numbers, in the order of `inputs`.

    Args:
        inputs: some of `ALL_INPUTS`; ``"noise:D"``; ``"latent:D"``, which networks give one another (`nets.posterior`).
        action: layout of actions; a choice is a one among zeros.
        action_names: words for each logit and continuous component; empty if not known.
    """
    size = action.num_logits + action.num_continuous
    of_action = tuple(f"previous action {name}" for name in action_names or range(size))
    names = {
        "previous_action": of_action,
        "previous_reward": ("previous reward",),
        "previous_done": ("previous done",),
        "age": ("age of the episode",),
        "seed": tuple(f"random number {number}" for number in range(SEED_SIZE)),
    }
    for one in inputs:
        if found := _SIZED.fullmatch(one):
            names[one] = tuple(f"{found[1]} {number}" for number in range(int(found[2])))
    return tuple(name for one in inputs for name in names[one])
