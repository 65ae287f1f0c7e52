"""Previous inputs: numbers about the episode so far that networks may see beside each observation."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_multienv.spaces.rows import ActionRow

__all__ = ["ALL_INPUTS", "INPUTS", "SEED_SIZE", "previous_names"]

#: The action that was taken, the reward that came of it, and whether an episode of a trial ended with it.
INPUTS = ("previous_action", "previous_reward", "previous_done")
#: Also log(1 + time steps since the episode began, or the trial), and `SEED_SIZE` random numbers, N(0, 1), that stay
#: the same for as long: with them rows that see the same can differ (Dimakopoulou & Van Roy 2018, arXiv 1802.01282).
ALL_INPUTS = (*INPUTS, "age", "seed")
#: Random numbers of a row.
SEED_SIZE = 4


def previous_names(inputs: Sequence[str], action: ActionRow, action_names: Sequence[str]) -> tuple[str, ...]:
    """Words for each of these numbers, in the order of `inputs`.

    Args:
        inputs: some of `ALL_INPUTS`.
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
    return tuple(name for one in inputs for name in names[one])
