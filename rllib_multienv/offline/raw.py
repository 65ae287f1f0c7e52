"""Data sets as they are stored: arrays of steps, checked one by one and against each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spaces.space_spec import SpaceSpec

REQUIRED = ("observations", "actions", "rewards", "terminals")
COLUMNS = (*REQUIRED, "timeouts", "next_observations")

#: Bytes of one block: small beside memory, large beside the cost of a call.
BLOCK_BYTES = 2**26


class DatasetError(ValueError):
    """A data set cannot be used. The message names its source, the key and the index, and says what was expected."""

    def __init__(self, source: str, problem: str, *, key: str | None = None, index: int | None = None) -> None:
        place = f"Data set {source!r}"
        if key is not None:
            place += f", key {key!r}"
        if index is not None:
            place += f", index {index}"
        super().__init__(f"{place}: {problem}")
        self.source, self.key, self.index = source, key, index


# --- Arrays that may be larger than memory


def blocks(array: Any) -> Iterator[slice]:
    """Slices of the first axis that together cover ``array`` (anything with ``shape`` and ``dtype``)."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))


@dataclass(frozen=True, kw_only=True)
class ArrayStore:
    """Makes new arrays: in memory, or as ``.npy`` files below ``folder`` that are mapped into memory."""

    folder: Path | None = None

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array to be filled; ``name`` is that of its file."""
        if self.folder is None:
            return np.empty(shape, dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=np.dtype(dtype), shape=shape)

    def copy(self, name: str, array: Any, dtype: Any) -> np.ndarray:
        """A copy of an array, or of an HDF5 data set, made block by block."""
        made = self.empty(name, array.shape, dtype)
        for block in blocks(array):
            made[block] = array[block]
        return made

    def below(self, name: str) -> ArrayStore:
        """A store in a folder of this one; the same one in memory."""
        return ArrayStore(folder=self.folder / name) if self.folder is not None else self


IN_MEMORY = ArrayStore()


def memory_dtype(stored: np.dtype) -> np.dtype:
    """The type that numbers are kept in: simulators work in float64, networks in float32."""
    return np.dtype(np.float32) if stored == np.float64 else stored


def data_files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file itself, or all files with these suffixes in a folder and below it, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder.
        DatasetError: The folder has no such file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"There is no data set file or folder {str(path)!r}.")
    files = sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())
    if not files:
        raise DatasetError(str(path), f"the folder has no file {', '.join(f'*{suffix}' for suffix in suffixes)}")
    return files


# --- Data sets


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """Steps of episodes, one after the other, as the environment gave them.

    Attributes:
        source: File, folder or name, for messages.
        observations: ``[N, ...]``, raw (see `spaces.observations`): arrays of a Box or Discrete space, rows of others.
        actions: ``[N]`` (discrete) or ``[N, ...]``; of a Dict or Tuple space the network's rows ``[N, width]``.
        rewards: ``[N]``.
        terminals: ``[N]``; true where the step led to a terminal state.
        timeouts: ``[N]``; true where an episode was cut after the step. None if the data set does not say.
        next_observations: ``[N, ...]``; None to take them from the next row.
        part_ends: Last rows of joined files; episodes are cut there, whatever ``timeouts`` says.
        metadata: The data set's other information, such as ``ref_min_score`` and ``max_episode_steps``.
        observation_space, action_space: If the data set has them; None to infer them from the arrays.
        mask_in_info: Whether rows have an action mask that is not in the observation space.

    Raises:
        DatasetError: Ranks or lengths are wrong, or a number is not finite; names the key and the first index.
    """

    source: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray | None = None
    next_observations: np.ndarray | None = None
    part_ends: tuple[int, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    observation_space: gym.Space | None = None
    action_space: gym.Space | None = None
    mask_in_info: bool = False

    def __len__(self) -> int:
        return len(self.rewards)

    def __post_init__(self) -> None:
        """Check ranks, lengths and numbers."""
        self._check_shapes()
        for key in ("observations", "actions", "rewards", "next_observations"):
            array = getattr(self, key)
            if array is None or not np.issubdtype(array.dtype, np.floating):
                continue
            for block in blocks(array):
                finite = np.isfinite(array[block]).reshape(block.stop - block.start, -1).all(1)
                if not finite.all():
                    self._fail("is not a finite number", key, block.start + int(np.argmin(finite)))

    def _check_shapes(self) -> None:
        if self.rewards.ndim != 1:
            self._fail(f"has shape {self.rewards.shape}; one number for each step is expected, [N]", "rewards")
        if len(self) == 0:
            self._fail("is empty: the data set has no steps", "rewards")
        for key in ("observations", "actions", "terminals", "timeouts", "next_observations"):
            array = getattr(self, key)
            if array is None:
                continue
            if array.ndim == 0 or len(array) != len(self):
                rows = len(array) if array.ndim else "no"
                self._fail(f"has {rows} rows, but 'rewards' has {len(self)}; all must have the same", key)
            if key in ("terminals", "timeouts") and array.ndim != 1:
                self._fail(f"has shape {array.shape}; one flag for each step is expected, [N]", key)
        shape = self.observations.shape
        if len(shape) < 2 and not np.issubdtype(self.observations.dtype, np.integer):  # these may be discrete
            self._fail(f"has shape {shape}; a vector for each step is expected, [N, I]", "observations")
        if self.next_observations is not None and self.next_observations.shape != shape:
            self._fail(f"has shape {self.next_observations.shape}, but 'observations' has {shape}", "next_observations")

    def _fail(self, problem: str, key: str, index: int | None = None) -> NoReturn:
        raise DatasetError(self.source, problem, key=key, index=index)

    def with_timeouts(self, episode_limit: int | None) -> np.ndarray:
        """``[N]`` bool, the steps after which episodes were cut.

        Where the data set does not say, they are inferred from ``episode_limit`` (None for none), with a warning.

        Raises:
            DatasetError: Neither terminals nor timeouts say where an episode ends.
        """
        terminals = self.terminals.astype(bool)
        part_ends = np.asarray(self.part_ends, int)
        if self.timeouts is not None:
            timeouts = self.timeouts.astype(bool) & ~terminals
        else:
            timeouts = np.zeros(len(self), bool)
            if episode_limit is not None:
                ends = terminals.copy()
                ends[part_ends] = True
                rows = np.arange(len(self))
                starts = np.maximum.accumulate(np.where(np.append(True, ends[:-1]), rows, 0))
                timeouts = ((rows - starts + 1) % episode_limit == 0) & ~terminals
                if timeouts.any():
                    warnings.warn(
                        f"Data set {self.source!r} has no 'timeouts'; episodes are taken to be cut after "
                        f"{episode_limit} steps, at {int(timeouts.sum())} places.",
                        stacklevel=2,
                    )
        timeouts[part_ends] = ~terminals[part_ends]
        if not (timeouts.any() or terminals.any()):
            self._fail(
                f"the data set's {len(self)} steps are one episode without an end. Mark the steps after which an "
                "episode ended (terminals) or was cut (timeouts), or give the environment's max_episode_steps",
                "terminals",
            )
        return timeouts


def concatenate(
    source: str, parts: Iterable[RawDataset], *, num_steps: int, store: ArrayStore = IN_MEMORY, **fields: Any
) -> RawDataset:
    """Join data sets, which may be single episodes or pieces of episodes; they are read one by one.

    Args:
        source: See :class:`RawDataset`.
        parts: In order. ``next_observations`` are kept if all parts have them.
        num_steps: Of all parts together.
        store: Makes the arrays.
        fields: Metadata and spaces of the whole.

    Raises:
        DatasetError: Shapes or types of rows differ, or only some parts say where episodes were cut.
    """
    first: RawDataset | None = None
    arrays: dict[str, np.ndarray] = {}
    missing: set[str] = set()
    part_ends: list[int] = []
    start = 0
    for part in parts:
        first = part if first is None else first
        stop = start + len(part)
        if stop > num_steps:
            raise DatasetError(source, f"has more than the {num_steps} steps that its metadata say", index=start)
        if (part.timeouts is None) != (first.timeouts is None):
            without, having = (part, first) if part.timeouts is None else (first, part)
            raise DatasetError(without.source, f"is missing, but {having.source!r} has it", key="timeouts")
        for key in COLUMNS:
            column = getattr(part, key)
            if column is None:
                missing.add(key)
                continue
            if key not in arrays:
                arrays[key] = store.empty(key, (num_steps, *column.shape[1:]), memory_dtype(column.dtype))
            array = arrays[key]
            if column.shape[1:] != array.shape[1:] or not np.can_cast(column.dtype, array.dtype, "same_kind"):
                problem = f"has rows of shape {column.shape[1:]} and type {column.dtype}, but those of "
                problem += f"{first.source!r} have {array.shape[1:]} and {array.dtype}"
                raise DatasetError(part.source, problem, key=key)
            for block in blocks(column):
                array[start + block.start : start + block.stop] = column[block]
        part_ends += [start + row for row in part.part_ends]
        start = stop
    if start != num_steps:
        raise DatasetError(source, f"has {start} steps, but its metadata say {num_steps}", key="rewards")
    if first is None:
        raise DatasetError(source, "the data set has no steps", key="rewards")
    columns: dict[str, Any] = {key: array for key, array in arrays.items() if key not in missing}
    return RawDataset(source=source, **columns, part_ends=tuple(part_ends), **fields)


# --- Spaces


def inferred_spaces(env_id: str, raw: RawDataset) -> SpaceSpec:
    """The spaces of a data set; where it has none, those that its arrays fit into.

    Integer actions are discrete, 0 to their largest; others lie in [-1, 1].
    """
    observation_space, action_space = raw.observation_space, raw.action_space
    if observation_space is None:
        if raw.observations.dtype == np.uint8:  # perhaps an image
            observation_space = gym.spaces.Box(0, 255, raw.observations.shape[1:] or (1,), np.uint8)
        else:
            observation_space = gym.spaces.Box(-np.inf, np.inf, (_width(raw.observations),), np.float32)
    if action_space is None:
        if np.issubdtype(raw.actions.dtype, np.integer):
            action_space = gym.spaces.Discrete(int(raw.actions.max()) + 1)
        else:
            action_space = gym.spaces.Box(-1.0, 1.0, (_width(raw.actions),), np.float32)
    return SpaceSpec.from_spaces(env_id, observation_space, action_space, mask_in_info=raw.mask_in_info)


def dataset_reader(raw: RawDataset, spec: SpaceSpec) -> ObservationReader:
    """What turns a data set's observations into rows of an environment with these spaces.

    Raises:
        DatasetError: They are of other spaces.
    """
    own = spec.reader
    if raw.observation_space is not None:
        found = ObservationReader(raw.source, raw.observation_space, spec.action, raw.mask_in_info)
        own = own if found.is_plain else found
    shape, width = raw.observations.shape[1:], _width(raw.observations)
    if own.is_plain or (not own.layout.packed and width == spec.obs_size):
        return own
    is_image = isinstance(own.space, gym.spaces.Box) and not own.layout.mask and width == own.size
    if own.layout != spec.observation or (shape != own.raw_shape and not is_image):
        problem = f"has rows of shape {shape} and type {raw.observations.dtype}, which do not fit the observations of "
        problem += f"environment {spec.env_id!r}, {spec.observation_space}"
        if spec.mask_in_info:
            problem += ", with an action mask from its infos"
        raise DatasetError(raw.source, problem, key="observations")
    return own


def check_fits(raw: RawDataset, spec: SpaceSpec) -> None:
    """Check a data set against the spaces of an environment.

    Raises:
        DatasetError: Sizes differ, or actions lie outside the bounds; names the key and the first index.
    """
    reader = dataset_reader(raw, spec)
    for key, space, size in (
        ("observations", spec.observation_space, spec.obs_size if reader.is_plain else None),
        ("actions", spec.action_space, spec.action.width),
    ):
        found = _width(getattr(raw, key))
        if isinstance(space, gym.spaces.Discrete):
            _check_discrete(raw, key, space, spec.env_id)
        elif size is not None and found != size:
            problem = f"has {found} numbers for each step, but environment {spec.env_id!r} has {key} of {size}"
            raise DatasetError(raw.source, problem, key=key)
    if isinstance(spec.action_space, gym.spaces.Box):
        _check_bounds(raw, spec)
    elif not spec.discrete:
        _check_parts(raw, spec)


def _width(array: np.ndarray) -> int:
    return int(np.prod(array.shape[1:]))


def _check_bounds(raw: RawDataset, spec: SpaceSpec) -> None:
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    slack = 1e-4 * np.maximum(1.0, high - low)  # rounding to float32, and bounds of another simulator's version
    for block in blocks(raw.actions):
        actions = raw.actions[block].reshape(-1, spec.action_size)
        inside = ((actions >= low - slack) & (actions <= high + slack)).all(1)
        if not inside.all():
            row = int(np.argmin(inside))
            action = np.array2string(actions[row], precision=4, threshold=8)
            problem = (
                f"{action} lies outside the bounds in use of environment {spec.env_id!r}, {low.tolist()} to "
                f"{high.tolist()} (its space is {spec.action_space}; without a bound, an interval of length 2 is used)"
            )
            raise DatasetError(raw.source, problem, key="actions", index=block.start + row)


def _check_parts(raw: RawDataset, spec: SpaceSpec) -> None:
    """Check actions of several parts: choices among those that there are, bits, and numbers in [-1, 1]."""
    low: list[int] = []
    high: list[int] = []
    for part in spec.action.parts:
        ends = {"categorical": (0, part.size - 1, 1), "bernoulli": (0, 1, part.size), "continuous": (-1, 1, part.size)}
        first, last, columns = ends[part.kind]
        low, high = low + [first] * columns, high + [last] * columns
    is_choice = np.arange(spec.action.width) < spec.action.width - spec.action.num_continuous
    for block in blocks(raw.actions):
        rows = spec.action_from_env(raw.actions[block])
        inside = (rows >= low) & (rows <= high) & ((rows == np.rint(rows)) | ~is_choice)  # [n, width]
        if not inside.all():
            row = int(np.argmin(inside.all(1)))
            action = np.array2string(np.asarray(raw.actions[block][row]), precision=4, threshold=8)
            problem = f"{action} is no action of environment {spec.env_id!r}, whose space is {spec.action_space}"
            raise DatasetError(raw.source, problem, key="actions", index=block.start + row)


def _check_discrete(raw: RawDataset, key: str, space: gym.spaces.Discrete, env_id: str) -> None:
    array = getattr(raw, key)
    if array.size != len(raw):
        problem = f"has shape {array.shape}, but environment {env_id!r} has discrete {key}: [N] is expected"
        raise DatasetError(raw.source, problem, key=key)
    values, first, last = array.reshape(-1), int(space.start), int(space.start) + int(space.n) - 1
    allowed = (values == np.rint(values)) & (values >= first) & (values <= last)
    if not allowed.all():
        row = int(np.argmin(allowed))
        problem = f"{values[row]} is none of environment {env_id!r}'s {space.n} discrete {key}, {first} to {last}"
        raise DatasetError(raw.source, problem, key=key, index=row)
