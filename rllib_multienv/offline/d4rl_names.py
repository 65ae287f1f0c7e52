"""Data sets by their D4RL names: where the file lies, and the reference scores of the legacy package."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore
from rllib_multienv.offline.d4rl_file import read_d4rl
from rllib_multienv.offline.raw import RawDataset


def read_d4rl_name(name: str, *, data_dir: str | Path | None = None, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read the file of a D4RL name; reference scores that it does not have itself are D4RL's.

    Args:
        name: For example ``hopper-medium-expert-v2``.
        data_dir: Folder of the files; None for D4RL's own.
        store: Where arrays are made.

    Raises:
        FileNotFoundError: The file is not there; says where it is expected.
        DatasetError: The file cannot be used.
    """
    raw = read_d4rl(d4rl_path(name, data_dir), store=store)
    scores = reference_scores(name)
    if scores is None:
        return raw
    return replace(raw, metadata={"ref_min_score": scores[0], "ref_max_score": scores[1], **raw.metadata})


def d4rl_path(name: str, data_dir: str | Path | None = None) -> Path:
    """The file of a D4RL name.

    Args:
        name: For example ``hopper-medium-expert-v2``.
        data_dir: Its folder; None for ``$D4RL_DATASET_DIR`` or ``~/.d4rl/datasets``.

    Raises:
        FileNotFoundError: None of the spellings of its file is there.
    """
    folder = Path(data_dir or os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets").expanduser()
    url = _infos().get("DATASET_URLS", {}).get(name)
    names = _file_names(name, url)
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(
        f"There is no file of data set 'd4rl:{name}': {names[0]!r} is expected in {str(folder)!r} (or "
        f"{', '.join(repr(other) for other in names[1:])}). "
        + (f"D4RL's own copy is at {url}" if url else "With the package d4rl installed, the name of its file is known")
        + "."
    )


def reference_scores(name: str) -> tuple[float, float] | None:
    """Returns of a random and of an expert policy, by which D4RL normalizes; None where they are not known.

    They are those of the package ``d4rl`` (``pip install 'rllib-multienv[d4rl]'``), which is not imported: it needs an
    old Gym.
    """
    infos = _infos()
    low, high = (infos.get(key, {}).get(name) for key in ("REF_MIN_SCORE", "REF_MAX_SCORE"))
    return None if low is None or high is None else (float(low), float(high))


def _file_names(name: str, url: str | None) -> list[str]:
    """Spellings of the file's name, the likeliest first."""
    stem, version = match.groups() if (match := re.fullmatch(r"(.+)(-v\d+)", name)) else (name, "")
    underscored = stem.replace("-", "_")
    # D4RL's files of version 0 often have none in their names; with others that would be another data set.
    stems = [underscored + version, name, (underscored + version).replace("-", "_")]
    if version == "-v0":
        stems += [underscored, stem]
    names = [url.rsplit("/", 1)[-1]] if url else []
    return list(dict.fromkeys(names + [f"{stem}.hdf5" for stem in stems]))


def _infos() -> Mapping[str, Any]:
    """The tables of the installed package's ``d4rl/infos.py``; empty without it."""
    try:
        path = Path(str(importlib.metadata.distribution("d4rl").locate_file("d4rl/infos.py")))
    except importlib.metadata.PackageNotFoundError:
        return {}
    return _tables(path) if path.is_file() else {}


@lru_cache(maxsize=1)
def _tables(path: Path) -> Mapping[str, Any]:
    return runpy.run_path(str(path))
