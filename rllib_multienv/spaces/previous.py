"""Previous inputs: numbers about the last time step that networks may see beside each observation."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_multienv.spaces.rows import ActionRow

__all__ = ["INPUTS", "previous_names"]

#: The action that was taken, the reward that came of it, and whether an episode of a trial ended with it.
INPUTS = ("previous_action", "previous_reward", "previous_done")


def previous_names(inputs: Sequence[str], action: ActionRow, action_names: Sequence[str]) -> tuple[str, ...]:
    """Words for each of these numbers, in the order of `inputs`.

    Args:
        inputs: some of `INPUTS`.
        action: layout of actions; a choice is a one among zeros.
        action_names: words for each logit and continuous component; empty if not known.
    """
    size = action.num_logits + action.num_continuous
    of_action = tuple(f"previous action {name}" for name in action_names or range(size))
    names = {"previous_action": of_action, "previous_reward": ("previous reward",), "previous_done": ("previous done",)}
    return tuple(name for one in inputs for name in names[one])
