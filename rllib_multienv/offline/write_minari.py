"""Writer of Minari data sets (https://minari.farama.org), in their HDF5 format."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv.atomic_files import atomic_folder
from rllib_multienv.envs.make import make_env
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec

_ROOT = "MINARI_DATASETS_PATH"
#: Written before the episodes, but by Minari; the folder is moved into place when all of it is there.
_SEAL = "data/metadata.json"


def write_minari(
    dataset_id: str, raw: RawDataset, spec: SpaceSpec, env: EnvSpec | None = None, *, overwrite: bool = False
) -> None:
    """Write a data set into Minari's folder; it is there as a whole or not at all.

    Args:
        dataset_id: As in ``"cartpole/mixed-v0"``.
        raw: What is written; it must have ``next_observations``, since Minari keeps the observation after an episode.
        spec: The spaces.
        env: The environment, so that Minari can make it again; None if it is not known.
        overwrite: Whether it may take the place of a data set of this id.

    Raises:
        ImportError: Minari is not installed.
        ValueError: The id is not of Minari's form.
        FileExistsError: There is a data set of this id.
        DatasetError: ``raw`` has no ``next_observations``.
    """
    check_new_dataset(dataset_id, overwrite=overwrite)
    if raw.next_observations is None:
        raise DatasetError(
            raw.source,
            "is missing; a Minari data set has the observation after the last step of each episode",
            key="next_observations",
        )
    from minari.namespace import create_namespace, list_local_namespaces

    path = _folder(dataset_id)
    old = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    with atomic_folder(path, seal=_SEAL, known=old) as new:
        root = new / "root"
        root.mkdir()
        with _minari_root(root):
            _create(dataset_id, raw, spec, env)
        os.rename(root / dataset_id / "data", new / "data")
        shutil.rmtree(root)
        check_new_dataset(dataset_id, overwrite=overwrite)  # another may have written it in the meantime
    namespace = dataset_id.rpartition("/")[0]
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)


def check_new_dataset(dataset_id: str, *, overwrite: bool = False) -> None:
    """Check that a Minari data set can be written.

    Raises:
        ImportError: Minari is not installed.
        ValueError: The id is not of Minari's form.
        FileExistsError: There is a data set of this id, and it is to be kept.
    """
    try:
        from minari.dataset.minari_dataset import parse_dataset_id
    except ImportError as error:
        raise ImportError(
            f"Minari data sets need packages that are not installed ({error}): pip install 'rllib-multienv[offline]'"
        ) from error
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError where only the version is missing
        raise ValueError(
            f"{dataset_id!r} cannot be the id of a Minari data set; it is of the form (namespace/)name-v0."
        ) from error
    path = _folder(dataset_id)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"There is a Minari data set {dataset_id!r} already, in {str(path)!r}; give another name or version, or "
            "ask to overwrite it."
        )


def _folder(dataset_id: str) -> Path:
    """As Minari finds it, but without making the folders above it."""
    return Path(os.environ.get(_ROOT) or Path.home() / ".minari" / "datasets", dataset_id)


@contextlib.contextmanager
def _minari_root(root: Path) -> Iterator[None]:
    """Let Minari write somewhere else; it asks the environment variable each time."""
    before = os.environ.get(_ROOT)
    os.environ[_ROOT] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ROOT]
        else:
            os.environ[_ROOT] = before


def _create(dataset_id: str, raw: RawDataset, spec: SpaceSpec, env: EnvSpec | None) -> None:
    from minari import create_dataset_from_buffers

    scores = {key: raw.metadata.get(key) for key in ("ref_min_score", "ref_max_score")}
    made = make_env(env) if env is not None else None
    try:
        with warnings.catch_warnings():
            # It asks for an author, an e-mail address and more; a recording has none.
            warnings.filterwarnings("ignore", message=".*is set to None")
            warnings.filterwarnings("ignore", message="env_spec is ")
            dataset = create_dataset_from_buffers(
                dataset_id,
                list(_buffers(raw, spec)),
                env=made if made is not None and made.spec is not None else None,
                observation_space=spec.observation_space,
                action_space=spec.action_space,
                data_format="hdf5",
                # Without both it would play a hundred episodes itself.
                **(scores if None not in scores.values() else {}),
            )
    finally:
        if made is not None:
            made.close()
    dataset.storage.update_metadata({key: _plain(value) for key, value in raw.metadata.items() if value is not None})


def _buffers(raw: RawDataset, spec: SpaceSpec) -> Iterator[Any]:
    """One buffer for each episode, with T + 1 observations; one without an end is cut after the last row."""
    from minari.data_collector import EpisodeBuffer

    assert raw.next_observations is not None
    terminals = raw.terminals.astype(bool)
    timeouts = raw.with_timeouts(None) if raw.timeouts is not None else np.zeros(len(raw), bool)
    timeouts[-1] |= not terminals[-1]
    first = 0
    for last in np.flatnonzero(terminals | timeouts).tolist():
        rows = slice(first, last + 1)
        observations = np.concatenate([raw.observations[rows], raw.next_observations[last : last + 1]])
        if isinstance(spec.observation_space, gym.spaces.Discrete):
            observations = observations.reshape(-1)
        yield EpisodeBuffer(
            observations=observations,
            actions=raw.actions[rows],
            rewards=raw.rewards[rows],
            terminations=terminals[rows],
            truncations=timeouts[rows],
        )
        first = last + 1


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
