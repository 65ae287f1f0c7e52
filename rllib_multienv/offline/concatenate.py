"""Makes one data set of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore, blocks
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset


def concatenate(source: str, parts: Sequence[RawDataset], *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Data sets one after the other; no episode goes from one into the next.

    Observations after the last steps of episodes are used if all parts have them; metadata and spaces are kept if all
    parts agree on them.

    Args:
        source: What to call the whole in messages.
        parts: At least one.
        store: Where arrays are made.

    Raises:
        DatasetError: Parts differ in their shapes, or only some say where episodes were cut.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for key in ("observations", "actions"):
            ours, theirs = getattr(part, key).shape[1:], getattr(first, key).shape[1:]
            if ours != theirs:
                raise DatasetError(
                    part.source, f"has rows of shape {ours}, but those of {first.source!r} have {theirs}", key=key
                )
        if (part.timeouts is None) != (first.timeouts is None):
            without, having = (part, first) if part.timeouts is None else (first, part)
            raise DatasetError(
                without.source,
                f"is missing, but {having.source!r} has it; all parts must have it or none",
                key="timeouts",
            )
    ends = np.cumsum([len(part) for part in parts])
    inner = [int(end) - len(part) + row for end, part in zip(ends, parts, strict=True) for row in part.part_ends]
    return RawDataset(
        source=source,
        observations=_joined("observations", parts, store),
        actions=_joined("actions", parts, store),
        rewards=_joined("rewards", parts, store),
        terminals=_joined("terminals", parts, store),
        timeouts=None if first.timeouts is None else _joined("timeouts", parts, store),
        next_observations=(
            None
            if any(part.next_observations is None for part in parts)
            else _joined("next_observations", parts, store)
        ),
        part_ends=tuple(sorted({*inner, *(int(end) - 1 for end in ends)})),
        metadata={
            key: value
            for key, value in first.metadata.items()
            if all(_same(part.metadata.get(key), value) for part in parts[1:])
        },
        observation_space=_common(parts, "observation_space"),
        action_space=_common(parts, "action_space"),
    )


def _joined(key: str, parts: Sequence[RawDataset], store: ArrayStore) -> np.ndarray:
    arrays = [getattr(part, key) for part in parts]
    whole = store.empty(
        key, (sum(len(array) for array in arrays), *arrays[0].shape[1:]), np.result_type(*{a.dtype for a in arrays})
    )
    start = 0
    for array in arrays:
        for block in blocks(array):
            whole[start + block.start : start + block.stop] = array[block]
        start += len(array)
    return whole


def _same(ours: Any, theirs: Any) -> bool:
    return bool(np.array_equal(ours, theirs))


def _common(parts: Sequence[RawDataset], key: str) -> Any:
    spaces = [getattr(part, key) for part in parts]
    return spaces[0] if all(space == spaces[0] for space in spaces) else None
