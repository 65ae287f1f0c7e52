"""Reader of Minari's data sets (https://minari.farama.org)."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec

if TYPE_CHECKING:
    import minari


def check_minari(name: str) -> Path:
    """The folder of a data set.

    Raises:
        ImportError: Minari is not installed.
        FileNotFoundError: The data set is not on this machine.
    """
    if importlib.util.find_spec("minari") is None:
        raise ImportError(f"Data set 'minari:{name}' needs the package minari: pip install 'rllib-multienv[offline]'")
    # As Minari finds it, but without making the folder.
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    folder = root / name / "data"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no data set 'minari:{name}' on this machine: it is expected in {str(root / name)!r} (another "
            f"root can be set with MINARI_DATASETS_PATH). Get it with: minari download {name}"
        )
    return folder


def peek_minari(env_id: str, name: str) -> SpaceSpec:
    """The spaces that a data set says it has; its episodes are not read.

    Raises:
        ImportError, FileNotFoundError, DatasetError: As `read_minari` does, as far as it is seen here.
        UnsupportedSpaceError: The spaces are of a kind that networks cannot take.
    """
    dataset = _open(name)
    return SpaceSpec.from_spaces(env_id, flat_space(dataset.observation_space), dataset.action_space)


def read_minari(name: str, *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a data set that is on this machine.

    Observations are flattened in Gymnasium's order, except those of a Discrete space, which stay numbers. An episode
    whose last step is neither terminated nor truncated is taken to be cut there.

    Args:
        name: For example ``D4RL/door/human-v2``.
        store: Where arrays are made.

    Raises:
        ImportError: Minari is not installed.
        FileNotFoundError: The data set is not on this machine.
        DatasetError: It is damaged; names the key and the first step of the episode.
        UnsupportedSpaceError: Its spaces are of a kind that networks cannot take.
    """
    dataset = _open(name)
    source = f"minari:{name}"
    observation_space, action_space = flat_space(dataset.observation_space), dataset.action_space
    SpaceSpec.from_spaces(source, observation_space, action_space)
    steps = int(dataset.total_steps)
    obs_shape, obs_dtype = _stored_as(observation_space)
    action_shape, action_dtype = _stored_as(action_space)
    observations = store.empty("observations", (steps, *obs_shape), obs_dtype)
    next_observations = store.empty("next_observations", (steps, *obs_shape), obs_dtype)
    actions = store.empty("actions", (steps, *action_shape), action_dtype)
    rewards, terminals, timeouts = np.empty(steps, np.float32), np.empty(steps, bool), np.empty(steps, bool)
    start = 0
    for episode in _episodes(dataset, source):
        stop = start + len(episode.rewards)
        if stop == start:
            continue
        if stop > steps:
            raise DatasetError(source, f"has more than the {steps} steps that its metadata say", index=start)
        flat = flatten(dataset.observation_space, episode.observations)
        _check_lengths(source, episode, len(flat), start)
        observations[start:stop], next_observations[start:stop] = flat[:-1], flat[1:]
        actions[start:stop], rewards[start:stop] = np.reshape(episode.actions, (-1, *action_shape)), episode.rewards
        terminals[start:stop], timeouts[start:stop] = episode.terminations, episode.truncations
        timeouts[stop - 1] |= not terminals[stop - 1]
        start = stop
    if start != steps:
        raise DatasetError(source, f"has {start} steps, but its metadata say {steps}", key="rewards")
    return RawDataset(
        source=source,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminals=terminals,
        timeouts=timeouts,
        next_observations=next_observations,
        metadata=_metadata(dataset),
        observation_space=observation_space,
        action_space=action_space,
    )


def flat_space(space: gym.Space) -> gym.Space:
    """The space of `flatten`'s rows: a Box of rank 1, or the same Discrete space."""
    if isinstance(space, gym.spaces.Discrete):
        return space
    return gym.spaces.utils.flatten_space(space)


def flatten(space: gym.Space, values: Any) -> np.ndarray:
    """Flatten the observations of an episode all at once, as Gymnasium flattens one.

    Args:
        space: Of one observation.
        values: Arrays ``[T, ...]``, in dicts and tuples as in the space.

    Returns:
        ``[T, I]``, or ``[T]`` for a Discrete space.
    """
    return np.asarray(values) if isinstance(space, gym.spaces.Discrete) else _flat_rows(space, values)


def _flat_rows(space: gym.Space, values: Any) -> np.ndarray:
    if isinstance(space, gym.spaces.Dict):
        return np.concatenate([_flat_rows(part, values[key]) for key, part in space.spaces.items()], axis=1)
    if isinstance(space, gym.spaces.Tuple):
        return np.concatenate([_flat_rows(part, value) for part, value in zip(space.spaces, values, strict=True)], 1)
    if isinstance(space, gym.spaces.Box):
        return np.asarray(values, space.dtype).reshape(len(values), -1)
    return np.stack([np.asarray(gym.spaces.utils.flatten(space, value)) for value in values])


def _stored_as(space: gym.Space) -> tuple[tuple[int, ...], Any]:
    """Shape and type of one row."""
    if isinstance(space, gym.spaces.Discrete):
        return (), np.int64
    assert space.shape is not None and space.dtype is not None
    return space.shape, np.float32 if space.dtype == np.float64 else space.dtype


def _open(name: str) -> minari.MinariDataset:
    folder = check_minari(name)
    import minari

    try:
        return minari.MinariDataset(folder)
    except (ValueError, KeyError, AssertionError, OSError) as error:
        raise DatasetError(f"minari:{name}", f"its metadata in {str(folder)!r} cannot be read ({error})") from error


def _episodes(dataset: minari.MinariDataset, source: str) -> Any:
    """The episodes in order; what Minari raises becomes an error that names the episode."""
    for number in dataset.episode_indices:
        try:
            (episode,) = dataset.iterate_episodes([number])
        except (OSError, KeyError, ValueError, AssertionError) as error:
            raise DatasetError(source, f"episode {number} cannot be read, the data set is damaged ({error})") from error
        yield episode


def _check_lengths(source: str, episode: Any, observations: int, start: int) -> None:
    steps = len(episode.rewards)
    for key, found, right in (
        ("observations", observations, steps + 1),
        ("actions", len(episode.actions), steps),
        ("terminations", len(episode.terminations), steps),
        ("truncations", len(episode.truncations), steps),
    ):
        if found != right:
            raise DatasetError(
                source,
                f"has {found} rows in episode {episode.id}, {right} are expected for its {steps} rewards",
                key=key,
                index=start,
            )


def _metadata(dataset: minari.MinariDataset) -> dict[str, Any]:
    """What the data set says of itself, as plain values; ``env_id`` and ``max_episode_steps`` are its environment's."""
    raw = dataset.storage.read_raw_metadata(dataset.storage.data_path)
    found = {key: value for key, value in raw.items() if isinstance(value, str | int | float | bool)}
    for key in ("observation_space", "action_space"):
        found.pop(key, None)
    if dataset.env_spec is not None:
        found |= {"env_id": dataset.env_spec.id, "max_episode_steps": dataset.env_spec.max_episode_steps}
        found["env_kwargs"] = json.dumps(dataset.env_spec.kwargs, default=str)
    return found
