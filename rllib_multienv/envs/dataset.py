"""A data set as an environment: a row is an observation, a prediction is an action.

An episode is one row (or, with ``rows_per_episode``, several): the observation is X, the action predicts Y, and the
info of the step has Y. The reward is the row's *score*, whose mean over a split is the accuracy or R squared. Learners
train rows of supervised data sets by the likelihood of Y (see `MultiEnvLearner`), not by the score.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.envs.dataset_columns import Features, Targets
from rllib_multienv.envs.dataset_sources import DatasetError, Table, read_table
from rllib_multienv.envs.make import opened
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import EnvSpec

__all__ = ["TARGET", "DatasetEnv", "DatasetError", "dataset_length", "deal_rows"]

#: Key of the target in the info of a step.
TARGET = "target"
Objective = Literal["supervised", "bandit"]
Reveal = Literal["never", "next"]
#: Rows of an episode with ``reveal="next"``, where nothing else is said.
REVEALED_ROWS = 50


@dataclass(frozen=True)
class _Data:
    """A data set that is ready to be shown; copies in one process share it.

    Attributes:
        source: What it was read from; kept so that its identity stays its own.
        table: The columns.
        features: Observations.
        targets: What is to be predicted; None without.
        splits: Rows, by name.
    """

    source: Any
    table: Table
    features: Features
    targets: Targets | None
    splits: dict[str, np.ndarray]

    def shown_target(self, target: Any) -> np.ndarray:
        """A target as float32 numbers ``[K]`` to observe: one-hot for a class; zeros for None."""
        assert self.targets is not None
        space = self.targets.space
        if isinstance(space, spaces.Discrete):
            hot = np.zeros(int(space.n), np.float32)
            if target is not None:
                hot[int(target)] = 1.0
            return hot
        if target is None:
            return np.zeros(space.shape, np.float32)
        if isinstance(space, spaces.Box):  # from -1 to 1
            return ((target - space.low) / (space.high - space.low) * 2.0 - 1.0).astype(np.float32)
        return np.asarray(target, dtype=np.float32)

    @cached_property
    def score_scales(self) -> dict[str, np.ndarray]:
        """Variance ``[D]`` of the targets of each split, for regression."""
        assert self.targets is not None
        values = self.targets.values.reshape(len(self.targets.values), -1).astype(np.float64)
        return {name: np.maximum(values[rows].var(0), 1e-12) for name, rows in self.splits.items() if len(rows)}


_loaded: weakref.WeakValueDictionary[Any, _Data] = weakref.WeakValueDictionary()


class DatasetEnv(gym.Env[Any, Any]):
    """The rows of a data set, one at a step.

    ``DatasetEnv(load_digits())`` can be given to ``environment(envs=[...])`` as it is. In a configuration file:
    ``{id: digits, make: "rllib_multienv:DatasetEnv", kwargs: {source: "sklearn.datasets:load_digits"}}``.

    The rows are split first, by ``split_seed``; numbers are standardised by the training split's moments. Each epoch is
    one permutation of the split's rows, and B copies in one process are dealt its rows in turn, so that together they
    show each row once an epoch. The environment never stops: after ``epochs`` it continues with the next epoch, and
    :attr:`is_done` says that it is over, which `AEEnv` and schedules look at.

    Args:
        source: Arrays ``(X, Y)`` or X; a scikit-learn bunch; a mapping of columns; a pandas frame; a map-style or
            iterable data set of PyTorch; a Hugging Face dataset; a data source of TensorFlow Datasets; a Deep Lake
            dataset; any sequence or iterable of rows, which are ``(x, y)``, mappings, or x. A mapping ``{"train": ...,
            "test": ...}`` of these has splits of its own. A function that returns one of them, or its name
            ``"module:function"``; or a file (.csv, .parquet, .npz).
        x: The column or columns to observe. Default: what the source says, or all but `y`.
        y: The column to predict. Default: what the source says; without one there are observations alone.
        epochs: Epochs after which the data set is done.
        batch_size: Rows that `AEEnv` shows at a step, and copies in training (``EnvSpec.num_envs``). Default: one, and
            the run's ``num_envs_per_env_runner``.
        split: ``"train"``, ``"test"``, ``"all"``, or another split of the source.
        shuffle: Whether each epoch has another order.
        seed: Of the order; default: from the first reset.
        objective: ``"supervised"``: learners maximise the likelihood of Y. ``"bandit"``: they see the reward of the
            action alone.
        reward_fn: The reward with ``objective="bandit"``: a function of ``(action, y)``, or an array of costs
            ``[class, action]``. Default: the row's score, 1 or 0 for a class, one minus the squared error over the
            variance of Y for numbers.
        reveal: ``"next"``: an observation has, beside X, the target of the step before (zeros at the first step of an
            episode), so that a network with memory can learn from the rows that it has seen.
        name: The id in training. Default: the source's name for itself, or ``"dataset"``.
        classes: Number or names of the classes of Y, where the source does not say.
        regression: Whether whole numbers in Y are amounts.
        test_fraction: Share of the rows in the test split, where the source has none.
        split_seed: Of the split.
        standardize: Whether numbers in X are brought to mean 0 and deviation 1.
        image_size: Height and width of images, where they differ.
        max_length: Characters of texts that are kept; :attr:`num_cut` counts longer ones.
        max_rows: Rows that are read at most, for sources without end.
        rows_per_episode: Rows of an episode; default 1, or 50 with ``reveal="next"``.

    Attributes:
        num_rows: Rows of the split.
        position: Rows that this copy has shown.

    Raises:
        DatasetError: A value or label is missing, the split is empty, or a column is of an unknown kind.
    """

    def __init__(
        self,
        source: Any,
        x: str | Sequence[str] | None = None,
        y: str | None = None,
        epochs: int = 1,
        batch_size: int | None = None,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        objective: Objective = "supervised",
        reward_fn: Callable[[Any, Any], float] | Any = None,
        reveal: Reveal = "never",
        *,
        name: str | None = None,
        classes: int | Sequence[str] | None = None,
        regression: bool = False,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        standardize: bool = True,
        image_size: tuple[int, int] | None = None,
        max_length: int = 128,
        max_rows: int = 100_000,
        rows_per_episode: int | None = None,
    ) -> None:
        _check("objective", objective, get_args(Objective))
        _check("reveal", reveal, get_args(Reveal))
        for key, value in (("epochs", epochs), ("batch_size", batch_size), ("rows_per_episode", rows_per_episode)):
            if value is not None and value < 1:
                raise DatasetError(f"{key}={value} must be at least 1.")
        own = locals()
        # Snapshots leave out attributes of this name.
        self._saved_kwargs = {key: own[key] for key in inspect.signature(DatasetEnv.__init__).parameters if key in own}
        del self._saved_kwargs["self"]
        data = self._read(self._saved_kwargs)
        # A function, because snapshots leave functions out: every new copy has the rows too.
        self._data = lambda: data
        self.name = name or data.table.name or "dataset"
        self.epochs, self.batch_size, self.objective, self.reveal = epochs, batch_size, objective, reveal
        self.rows_per_episode = rows_per_episode or (REVEALED_ROWS if reveal == "next" else 1)
        self._reward_fn = lambda: reward_fn if reward_fn is None or callable(reward_fn) else np.asarray(reward_fn)
        if data.targets is None and (objective == "bandit" or reveal == "next"):
            raise DatasetError(f"Data set {self.name!r} has no targets: say which column they are, y=...")
        self.observation_space = self._observation_space(data)
        self.action_space = spaces.Discrete(1) if data.targets is None else data.targets.space
        self._seed, self._copy, self._copies, self._shuffle = seed, 0, 1, shuffle
        self.position = 0
        self._shown = 0  # rows of the running episode that were answered
        self._last_target: Any = None
        self._use(split)

    @staticmethod
    def _read(arguments: dict[str, Any]) -> _Data:
        """The data set that these arguments of the constructor describe; copies in one process read it once."""
        source = arguments["source"]
        what = ["x", "y", "classes", "regression", "test_fraction", "split_seed", "standardize", "image_size"]
        options = {key: arguments[key] for key in [*what, "max_length", "max_rows"]}
        key = source if isinstance(source, str) else id(source), repr(options)
        if (found := _loaded.get(key)) is None:
            found = _loaded[key] = _prepare(**{"source": source, **options})
        return found

    def _observation_space(self, data: _Data) -> gym.Space:
        space = data.features.space
        if self.reveal == "never":
            return space
        if not isinstance(space, spaces.Box) or space.dtype != np.float32:
            raise DatasetError(f"Data set {self.name!r}: reveal='next' is for observations of numbers, not {space}.")
        assert data.targets is not None
        return spaces.Box(-np.inf, np.inf, (space.shape[0] + len(data.shown_target(None)),), np.float32)

    def _use(self, split: str) -> None:
        """Show this split from its beginning."""
        splits = self._data().splits
        if split not in splits:
            raise DatasetError(f"Data set {self.name!r} has no split {split!r}; it has {', '.join(splits)}.")
        if not len(splits[split]):
            raise DatasetError(
                f"Data set {self.name!r}: its split {split!r} is empty ({len(self._data().table)} rows, "
                f"test_fraction={self._saved_kwargs['test_fraction']}). Set test_fraction=..., or split='all'."
            )
        self.split, self.num_rows = split, len(splits[split])
        self.position = self._shown = self._row = 0

    # What it is

    @property
    def is_supervised(self) -> bool:
        """Whether learners train on it by the likelihood of its targets."""
        return self.objective == "supervised" and self._data().targets is not None

    @property
    def has_targets(self) -> bool:
        """Whether there is something to predict."""
        return self._data().targets is not None

    @property
    def problem(self) -> str:
        """``"classification"``, ``"labels"``, ``"regression"``, or ``"none"`` without targets."""
        targets = self._data().targets
        return "none" if targets is None else targets.problem

    @property
    def component_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A few words for each number of the observation (where it has nothing else) and for each class or number."""
        data = self._data()
        names = data.features.names if isinstance(self.observation_space, spaces.Box) else ()
        if self.reveal == "next" and data.targets is not None:
            names += tuple(f"last {name}" for name in data.targets.names)
        return names, () if data.targets is None else data.targets.names

    @property
    def num_cut(self) -> int:
        """Texts that were longer than ``max_length`` and are cut."""
        return self._data().features.num_cut

    @property
    def epoch(self) -> int:
        """Epochs of the split that were shown, all copies together."""
        return self.position * self._copies // self.num_rows

    @property
    def is_done(self) -> bool:
        """Whether all epochs were shown."""
        return self.position * self._copies >= self.epochs * self.num_rows

    def env_spec(self, env_id: str | None = None) -> EnvSpec:
        """This data set as an environment to train on.

        Raises:
            DatasetError: It has no targets to train for.
        """
        if not self.has_targets:
            raise DatasetError(
                f"Data set {self.name!r} has no targets to train for: say which column they are, y=..., or give "
                "objective='bandit' with them."
            )
        defaults = {key: p.default for key, p in inspect.signature(DatasetEnv).parameters.items()}
        kwargs = {key: value for key, value in self._saved_kwargs.items() if value is not defaults[key]}
        if not isinstance(kwargs["source"], str) and not inspect.isroutine(kwargs["source"]):
            kwargs["source"] = self._data().table  # workers need not know the library, or read an iterator again
        return EnvSpec(env_id or self.name, make=DatasetEnv, kwargs=kwargs, num_envs=self.batch_size)

    # How rows are shown

    def deal(self, copy: int, copies: int, seed: int | None) -> None:
        """Show every ``copies``-th row of each permutation, from the ``copy``-th on; the order is by ``seed``."""
        self._copy, self._copies = copy, copies
        if self._saved_kwargs["seed"] is None:
            self._seed = seed

    def evaluate(self) -> None:
        """Show the test split, in its order; the rows that are shown anyway where it is empty."""
        self._shuffle = False
        self._use("test" if len(self._data().splits.get("test", ())) else self.split)

    def row_at(self, position: int) -> int:
        """The row that this copy shows at a position of its own, among all rows of the data set."""
        place = position * self._copies + self._copy
        rows = self._data().splits[self.split]
        epoch, place = divmod(place, self.num_rows)
        if not self._shuffle:
            return int(rows[place])
        return int(rows[_order(self._seed, epoch, self.num_rows)[place]])

    def observations(self, rows: Any) -> Any:
        """X of one row, or of several."""
        return self._data().features[rows]

    def targets(self, rows: Any) -> Any:
        """Y of one row or of several, as actions; None without."""
        targets = self._data().targets
        if targets is None:
            return None
        return targets.values[rows]

    def next_batch(self, size: int) -> np.ndarray:
        """The next rows, at most ``size`` of them, without going into the next epoch; they count as shown."""
        left = self.num_rows - self.position % self.num_rows
        rows = np.array([self.row_at(self.position + i) for i in range(min(size, left))])
        self.position += len(rows)
        return rows

    def scores(self, rows: Any, actions: Any) -> np.ndarray:
        """The score of actions ``[n, ...]`` in rows ``[n]``: their mean over a split is accuracy or R squared."""
        data = self._data()
        assert data.targets is not None
        return data.targets.scores(rows, actions, data.score_scales[self.split])

    def rewards(self, rows: Any, actions: Any) -> np.ndarray:
        """The rewards of actions ``[n, ...]`` in rows ``[n]``; with ``objective="supervised"`` the scores."""
        function = self._reward_fn()
        if function is None or self.objective == "supervised":
            return self.scores(rows, actions)
        pairs = zip(actions, self.targets(rows), strict=True)
        if callable(function):
            return np.array([float(function(action, target)) for action, target in pairs])
        return np.array([-float(function[target, action]) for action, target in pairs])

    def transitions(self) -> dict[str, np.ndarray]:
        """The split as offline experience: the target is the action, its reward 1, and the episode is over."""
        rows = self._data().splits[self.split]
        return {
            "observations": self.observations(rows),
            "actions": self.targets(rows),
            "rewards": np.ones(len(rows), np.float32),
            "terminals": np.ones(len(rows), bool),
        }

    # Gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Show the next row."""
        super().reset(seed=seed)
        if self._seed is None:
            self._seed = seed if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        self._shown, self._last_target = 0, None
        return self._observe(), {"row": self._row}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Answer the row that is shown.

        Returns:
            The next observation (the same one where the episode is over), the reward, whether the episode is over,
            False, and an info with the row's target.
        """
        info: dict[str, Any] = {"row": self._row, "epoch": self.epoch}
        reward = 0.0
        targets = self._data().targets
        if targets is not None:
            info[TARGET] = self._last_target = targets.values[self._row]
            reward = float(self.rewards([self._row], np.asarray(action)[None])[0])
            if self._reward_fn() is None:
                reward /= self.rows_per_episode  # for the return to be a mean
        self.position += 1
        self._shown += 1
        ended = self._shown >= self.rows_per_episode
        observation = self._observe(next_row=not ended)
        return observation, reward, ended, False, info

    def _observe(self, next_row: bool = True) -> Any:
        data = self._data()
        if next_row:
            self._row = self.row_at(self.position)
        observation = data.features[self._row]
        if self.reveal == "never":
            return observation
        return np.concatenate([observation, data.shown_target(self._last_target)])


def _check(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise DatasetError(f"{name}={value!r} must be one of {', '.join(known)}.{did_you_mean(str(value), known)}")


@lru_cache(maxsize=64)
def _order(seed: int, epoch: int, num_rows: int) -> np.ndarray:
    """The permutation of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def _prepare(
    source: Any, *, x: Any, y: str | None, max_rows: int, test_fraction: float, split_seed: int, **options: Any
) -> _Data:
    table = read_table(source, max_rows)
    if len(table) == max_rows and not isinstance(source, Table):
        warnings.warn(f"Only the first max_rows={max_rows} rows of the data set are read.", UserWarning, stacklevel=4)
    classes, regression = options.pop("classes"), options.pop("regression")
    y = y if y is not None else table.y
    names = [x] if isinstance(x, str) else list(x or table.x or [name for name in table.columns if name != y])
    for name in [*names, *([] if y is None else [y])]:
        if name not in table.columns:
            hint = did_you_mean(name, table.columns)
            raise DatasetError(f"The data set has no column {name!r}; it has {', '.join(table.columns)}.{hint}")
    splits = _splits(table, test_fraction, split_seed)
    train = splits["train"] if len(splits["train"]) else splits["all"]
    targets = None
    if y is not None:
        targets = Targets.of(y, table.columns[y], train=train, classes=classes, regression=regression)
    return _Data(source, table, Features.of(table, names, train=train, **options), targets, splits)


def _splits(table: Table, test_fraction: float, split_seed: int) -> dict[str, np.ndarray]:
    """Rows of each split: the source's own, or a part of the rows that ``split_seed`` draws for the test split."""
    everything = np.arange(len(table))
    if table.splits:
        return {"train": everything[:0], **table.splits, "all": everything}
    if not 0.0 <= test_fraction <= 1.0:
        raise DatasetError(f"test_fraction={test_fraction} must be between 0 and 1.")
    count = round(test_fraction * len(table))
    if test_fraction > 0.0 and len(table) > 1:
        count = max(1, count)
    order = np.random.default_rng(split_seed).permutation(len(table))
    return {"train": np.sort(order[count:]), "test": np.sort(order[:count]), "all": everything}


def dataset_length(spec: EnvSpec) -> int | None:
    """Steps after which a data set has shown all its epochs; None for other environments."""
    with opened(spec) as env:
        inner = env.unwrapped
        return inner.epochs * inner.num_rows if isinstance(inner, DatasetEnv) else None


def is_supervised(spec: EnvSpec) -> bool:
    """Whether an environment is a data set that learners train on by the likelihood of its targets."""
    with opened(spec) as env:
        return isinstance(env.unwrapped, DatasetEnv) and env.unwrapped.is_supervised


def deal_rows(copies: Iterable[gym.Env], seed: int | None, evaluation: bool = False) -> DatasetEnv | None:
    """Deal the rows of a data set to its copies in this process.

    Args:
        copies: The copies, with their wrappers.
        seed: Of the order of rows.
        evaluation: Whether they show the test split, in its order.

    Returns:
        The first of them; None where they are no data set.
    """
    found = [env.unwrapped for env in copies]
    if not found or not isinstance(found[0], DatasetEnv):
        return None
    for number, env in enumerate(found):
        assert isinstance(env, DatasetEnv)
        env.deal(number, len(found), seed)
        if evaluation:
            env.evaluate()
    return found[0]
