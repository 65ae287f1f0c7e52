"""Minari data sets (https://minari.farama.org)."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rllib_multienv.atomic_files import atomic_folder
from rllib_multienv.envs.make import opened
from rllib_multienv.offline.raw import IN_MEMORY, ArrayStore, DatasetError, RawDataset, concatenate, inferred_spaces
from rllib_multienv.spaces.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec

if TYPE_CHECKING:
    from minari import MinariDataset


def check(name: str) -> Path:
    """Check that a data set is on this machine; returns the folder of its data."""
    folder = _folder(name)
    if not (folder / "data").is_dir():
        raise FileNotFoundError(
            f"There is no data set 'minari:{name}' on this machine: it is expected in {str(folder)!r} (another root "
            f"can be set with MINARI_DATASETS_PATH). Get it with: minari download {name}"
        )
    return folder / "data"


def peek(env_id: str, name: str) -> SpaceSpec:
    """The spaces in a data set's metadata."""
    dataset = _open(name)
    return SpaceSpec.from_spaces(env_id, dataset.observation_space, dataset.action_space)


def read(name: str, *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a data set on this machine, such as ``D4RL/door/human-v2``.

    An episode whose last step is neither terminated nor truncated counts as cut there.
    """
    dataset, source = _open(name), f"minari:{name}"
    spaces = SpaceSpec.from_spaces(source, dataset.observation_space, dataset.action_space)
    return concatenate(
        source,
        _episodes(dataset, spaces),
        num_steps=int(dataset.total_steps),
        store=store,
        metadata=_metadata(dataset),
        observation_space=spaces.observation_space,
        action_space=spaces.action_space,
    )


def _folder(name: str) -> Path:
    """The folder of a data set, found as Minari finds it, but not made."""
    if importlib.util.find_spec("minari") is None:
        raise ImportError(f"Data set 'minari:{name}' needs the package minari: pip install 'rllib-multienv[offline]'")
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets", name)


def _open(name: str) -> MinariDataset:
    folder = check(name)
    import minari

    try:
        return minari.MinariDataset(folder)
    except (ValueError, KeyError, AssertionError, OSError) as error:
        raise DatasetError(f"minari:{name}", f"its metadata in {str(folder)!r} cannot be read ({error})") from error


def _episodes(dataset: MinariDataset, spaces: SpaceSpec) -> Iterator[RawDataset]:
    """The episodes in order, without those that have no steps."""
    source = spaces.env_id
    for number in dataset.episode_indices:
        try:
            (found,) = dataset.iterate_episodes([number])
        except (OSError, KeyError, ValueError, AssertionError) as error:
            raise DatasetError(source, f"episode {number} cannot be read, the data set is damaged ({error})") from error
        if not len(found.rewards):
            continue
        name = f"{source}, episode {number}"
        try:
            observations = spaces.reader.batch(found.observations)  # [T + 1, ...]
        except (ValueError, TypeError) as error:
            raise DatasetError(name, f"does not fit the data set's space: {error}", key="observations") from error
        if len(observations) != len(found.rewards) + 1:
            problem = f"has {len(observations)} rows; one more than the {len(found.rewards)} rewards are expected"
            raise DatasetError(name, problem, key="observations")
        terminals, timeouts = np.array(found.terminations, bool), np.array(found.truncations, bool)
        timeouts[-1:] |= ~terminals[-1:]
        yield RawDataset(
            source=name,
            observations=observations[:-1],
            next_observations=observations[1:],
            actions=_stored_actions(spaces, found.actions),
            rewards=np.asarray(found.rewards),
            terminals=terminals,
            timeouts=timeouts,
            observation_space=dataset.observation_space,
        )


def _stored_actions(spaces: SpaceSpec, actions: Any) -> np.ndarray:
    """Actions as a `RawDataset` has them."""
    if isinstance(spaces.action_space, gym.spaces.Dict | gym.spaces.Tuple):
        return spaces.action_from_env(actions)
    return np.reshape(actions, (-1, *(spaces.action_space.shape or ())))


def _metadata(dataset: MinariDataset) -> dict[str, Any]:
    """The plain values in the metadata, and of the environment ``env_id``, ``env_kwargs``, ``max_episode_steps``."""
    raw = dataset.storage.read_raw_metadata(dataset.storage.data_path)
    found = {
        key: value
        for key, value in raw.items()
        if isinstance(value, str | int | float | bool) and key not in ("observation_space", "action_space")
    }
    if dataset.env_spec is not None:
        found |= {"env_id": dataset.env_spec.id, "max_episode_steps": dataset.env_spec.max_episode_steps}
        found["env_kwargs"] = json.dumps(dataset.env_spec.kwargs, default=str)
    return found


# --- Writing


def write(name: str, raw: RawDataset, env: EnvSpec | None = None, *, overwrite: bool = False) -> None:
    """Write a data set atomically into Minari's folder, as HDF5.

    Args:
        name: The data set's id, such as ``"cartpole/mixed-v0"``.
        raw: The data set, with ``next_observations``: Minari keeps the observation after an episode.
        env: The environment, so that Minari can make it again; None if it is not known.
        overwrite: Replace a data set of this id.
    """
    check_new(name, overwrite=overwrite)
    if raw.next_observations is None:
        problem = "is missing; a Minari data set has the observation after the last step of each episode"
        raise DatasetError(raw.source, problem, key="next_observations")
    from minari.namespace import create_namespace, list_local_namespaces

    path = _folder(name)
    old = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    with atomic_folder(path, seal="data/metadata.json", known=old) as new:
        _fill(new / "data", name, raw, env)
        check_new(name, overwrite=overwrite)  # another process may have written it in the meantime
    namespace = name.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)


def check_new(name: str, *, overwrite: bool = False) -> None:
    """Check that a data set of this id can be written."""
    path = _folder(name)
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:  # TypeError where only the version is missing
        raise ValueError(f"{name!r} is no id of a Minari data set; these have the form (namespace/)name-v0.") from error
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"There is a Minari data set {name!r} already, in {str(path)!r}; give another name or version, or ask to "
            "overwrite it."
        )


def _fill(folder: Path, name: str, raw: RawDataset, env: EnvSpec | None) -> None:
    from minari import __version__
    from minari.dataset.minari_storage import MinariStorage

    spaces = inferred_spaces(raw.source, raw)
    made = None
    if env is not None:
        with opened(env) as env_of_data:
            made = env_of_data.spec
    # Not minari.create_dataset_from_buffers, which writes into Minari's folder and asks for an author.
    storage = MinariStorage.new(
        folder,
        observation_space=spaces.observation_space,
        action_space=spaces.action_space,
        env_spec=made,
        data_format="hdf5",
    )
    # Arrays and other values that JSON does not know become text.
    metadata = json.loads(json.dumps({k: v for k, v in raw.metadata.items() if v is not None}, default=_plain))
    storage.update_metadata({**metadata, "dataset_id": name, "minari_version": __version__})
    storage.update_episodes(_buffers(raw, spaces))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _buffers(raw: RawDataset, spaces: SpaceSpec) -> Iterator[Any]:
    """One buffer for each episode, with T + 1 observations; an episode without an end is cut after the last row."""
    from minari.data_collector import EpisodeBuffer

    assert raw.next_observations is not None
    terminals = raw.terminals.astype(bool)
    timeouts = raw.with_timeouts(None) if raw.timeouts is not None else np.zeros(len(raw), bool)
    timeouts[-1] |= not terminals[-1]
    first = 0
    for last in np.flatnonzero(terminals | timeouts).tolist():
        rows = slice(first, last + 1)
        observations = np.concatenate([raw.observations[rows], raw.next_observations[last : last + 1]])
        actions: Any = raw.actions[rows]
        if isinstance(spaces.action_space, gym.spaces.Dict | gym.spaces.Tuple):
            actions = spaces.writer.nested(actions)
        yield EpisodeBuffer(
            observations=spaces.reader.nested(observations),
            actions=actions,
            rewards=raw.rewards[rows],
            terminations=terminals[rows],
            truncations=timeouts[rows],
        )
        first = last + 1
