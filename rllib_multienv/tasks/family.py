"""Task families: a distribution over MDPs behind one environment, and copies of it stepped as arrays.

Every Gymnasium environment with the attributes of `TaskFamily` is one. Families without physics are a `VectorFamily`,
which steps all copies in one call; `FamilyEnv` is the single environment that Gymnasium makes of it.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

__all__ = [
    "SPLITS", "FamilyEnv", "FamilyStep", "Split", "TaskFamily", "TaskSplits", "VectorFamily", "family_of",
    "register_vector_family", "vector_family",
]  # fmt: skip

#: The last two are those of families with hidden parameters.
Split = Literal["train", "test", "interpolation", "extrapolation"]
SPLITS: tuple[Split, ...] = ("train", "test")
# Seeds of the lists of tasks of families with infinitely many.
_LIST_SEEDS: dict[str, int] = {"train": 1, "test": 2}


@runtime_checkable
class TaskFamily(Protocol):
    """An environment whose MDP, its *task*, is drawn from a distribution.

    Without `set_task` each reset draws a new task of `split` from the environment's `np_random`.

    Attributes:
        split: The tasks that resets draw from, ``"train"`` or ``"test"``.
    """

    split: Split

    @property
    def task(self) -> np.ndarray:
        """``[D]``, the present task."""

    def sample_tasks(self, n: int, split: Split, rng: np.random.Generator) -> np.ndarray:
        """``[n, D]`` tasks of a split; of a finite split all before one is repeated."""

    def set_task(self, task: Any) -> None:
        """Use this task (``[D]``) from the next reset on; None: draw one in each reset again."""

    def oracle_action(self) -> Any:
        """An action, in the present state, of a scripted policy that knows the task."""

    def oracle_return(self) -> float | None:
        """The expected return of the best policy in an episode of the present task; None where it is not known.

        To be asked directly after a reset, as it may depend on the first state.
        """


def family_of(env: Any) -> Any:
    """The `TaskFamily` beneath an environment's wrappers; None if it is no family."""
    inner = getattr(env, "unwrapped", env)
    return inner if isinstance(inner, TaskFamily) else None


class TaskSplits:
    """The training and test tasks of a distribution.

    The test split is a fixed list of `num_test_tasks` draws (seed 2). The training split is the distribution itself, or
    a fixed list of `num_train_tasks` draws (seed 1). A family with a finite number of tasks overrides `listed_tasks`.

    Attributes:
        splits: Names of the splits.
        num_train_tasks: Length of the list of training tasks; None: there is none.
        num_test_tasks: Length of the list of test tasks.
    """

    splits: tuple[Split, ...] = SPLITS
    num_train_tasks: int | None = None
    num_test_tasks: int = 40
    _lists: dict[str, np.ndarray | None] | None = None

    def check_split(self, split: str) -> None:
        """Check the name of a split.

        Raises:
            ValueError: There is no such split.
        """
        if split not in self.splits:
            raise ValueError(f"split={split!r} must be one of {', '.join(map(repr, self.splits))}.")

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, D]`` independent draws from the distribution."""
        raise NotImplementedError

    def listed_tasks(self, split: Split) -> np.ndarray | None:
        """``[tasks, D]``, all tasks of a split; None where they are infinitely many."""
        number = self.num_test_tasks if split == "test" else self.num_train_tasks
        return None if number is None else self.draw_tasks(number, np.random.default_rng(_LIST_SEEDS[split]))

    def sample_tasks(self, n: int, split: Split, rng: np.random.Generator) -> np.ndarray:
        """See `TaskFamily.sample_tasks`."""
        self.check_split(split)
        if self._lists is None:
            self._lists = {name: self.listed_tasks(name) for name in self.splits}
        listed = self._lists[split]
        if listed is None:
            return self.draw_tasks(n, rng)
        rounds = -(-n // len(listed))
        return listed[np.concatenate([rng.permutation(len(listed)) for _ in range(rounds)])[:n]]  # [n, D]


class FamilyStep(NamedTuple):
    """One step of all copies of a `VectorFamily`; see `envs.copies.VectorStep`.

    Attributes:
        obs: ``[B, ...]``, what the policy acts on next.
        rewards: float64 ``[B]``.
        terminated: bool ``[B]``, also the end of a trial in a terminal state.
        truncated: bool ``[B]``, also the end of a trial by its time limit.
        last: Observations before copies were reset, their rows that are terminated or truncated being real last ones;
            None where no copy is.
        episode_ends: bool ``[B]``, the last step of an episode, inside a trial too.
    """

    obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last: Any
    episode_ends: np.ndarray


class VectorFamily(TaskSplits, VectorEnv):
    """A task family whose copies are stepped as arrays. Copies that end are reset within the step.

    A subclass has `draw_tasks` or `listed_tasks`, and the methods from `begin` to `draw` below. All that changes from
    step to step is in arrays ``[B, ...]`` whose names are in its `STATE`, so that copies can be captured. Each copy
    has a random generator; only `begin` draws from it, the chances of a whole episode at once.

    Args:
        num_envs: Number of copies B.
        observation_space: Of one copy without the task: a flat Box.
        action_space: Of one copy.
        horizon: Steps after which an episode is truncated.
        obs_names: A few words for each component of the observation.
        action_names: A few words for each component of the action, or each discrete one.
        task_names: A few words for each component of the task.
        split: The tasks that resets draw from.
        task: ``[D]``, a task that all resets have instead, which makes it a plain environment.
        task_visible: Whether the task is appended to the observation.
        num_train_tasks: See `TaskSplits`.
        trial_episodes: Episodes of each trial. A trial has one task; its inner episodes end without `terminated` or
            `truncated`, and its last one as it ends.
        max_episode_steps: A shorter limit than `horizon`.
        render_mode: ``"rgb_array"``, or None.

    Attributes:
        tasks: ``[B, D]``, the present tasks.
        generators: B random generators.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.SAME_STEP
    }  # fmt: skip
    STATE: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        num_envs: int,
        observation_space: spaces.Box,
        action_space: gym.Space,
        horizon: int,
        *,
        obs_names: Sequence[str],
        action_names: Sequence[str],
        task_names: Sequence[str],
        split: Split = "train",
        task: Sequence[float] | None = None,
        task_visible: bool = False,
        num_train_tasks: int | None = None,
        trial_episodes: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.check_split(split)
        for name, value in (("horizon", horizon), ("num_train_tasks", num_train_tasks)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{type(self).__name__}: {name}={value!r} must be a whole number of at least 1.")
        self.num_envs, self.render_mode, self.split = num_envs, render_mode, split
        self.horizon = horizon if max_episode_steps is None else min(horizon, max_episode_steps)
        self.task_visible, self.num_train_tasks, self.trial_episodes = task_visible, num_train_tasks, trial_episodes
        if task_visible:
            observation_space = self.space_with_task(observation_space, len(task_names))
            obs_names = (*obs_names, *(f"task {name}" for name in task_names))
        self.component_names = tuple(obs_names), tuple(action_names)
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.tasks = np.zeros((num_envs, len(task_names)))
        if task is not None and np.shape(task) != (len(task_names),):
            raise ValueError(f"{type(self).__name__}: task={task!r} must be a list of {len(task_names)} numbers.")
        self._own_task = np.full(len(task_names), np.nan) if task is None else np.array(task, np.float64)
        self._set_tasks = np.tile(self._own_task, (num_envs, 1))  # NaN: drawn
        self._steps = np.zeros(num_envs, np.int64)
        self._episode = np.zeros(num_envs, np.int64)  # in the trial

    # A family's own part

    def begin(self, copies: np.ndarray) -> None:
        """Put these copies (``[N]`` indices) into the first state of an episode of their tasks."""
        raise NotImplementedError

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of the MDPs; returns rewards float64 ``[B]`` and terminal states bool ``[B]``."""
        raise NotImplementedError

    def observe(self) -> np.ndarray:
        """``[B, ...]`` observations without the task, a new array."""
        raise NotImplementedError

    def oracle_actions(self) -> np.ndarray:
        """``[B, ...]``; see `TaskFamily.oracle_action`."""
        raise NotImplementedError

    def oracle_returns(self) -> np.ndarray | None:
        """``[B]``; see `TaskFamily.oracle_return`."""
        return None

    def draw(self, copy: int) -> np.ndarray:
        """uint8 ``[H, W, 3]``, a picture of a copy."""
        raise NotImplementedError

    # The same for all

    def space_with_task(self, space: spaces.Box, size: int) -> Any:
        """The observation space with `size` numbers of the task."""
        low, high = np.append(space.low, np.full(size, -np.inf)), np.append(space.high, np.full(size, np.inf))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32))

    def observe_all(self) -> np.ndarray:
        """``[B, ...]`` observations, with the task where it is visible."""
        obs = self.observe()
        return np.concatenate([obs, self.tasks], axis=1, dtype=np.float32) if self.task_visible else obs

    def set_tasks(self, tasks: Any) -> None:
        """Use these tasks (``[B, D]``) from the next reset of each copy on; None: draw them again."""
        self._set_tasks[:] = self._own_task if tasks is None else tasks

    def begin_trials(self, copies: np.ndarray) -> None:
        """Draw a task for each of these copies (``[N]`` indices), and begin its first episode."""
        for copy in copies.tolist():
            drawn = np.isnan(self._set_tasks[copy, 0])
            self.tasks[copy] = (
                self.sample_tasks(1, self.split, self.generators[copy])[0] if drawn else self._set_tasks[copy]
            )
        self._episode[copies] = 0
        self._begin_episodes(copies)

    def _begin_episodes(self, copies: np.ndarray) -> None:
        self._steps[copies] = 0
        self.begin(copies)

    def reset_seeded(self, seeds: Sequence[int | None]) -> np.ndarray:
        """Begin a new trial in every copy, seeded where its seed is not None; returns observations ``[B, ...]``."""
        for copy, seed in enumerate(seeds):
            if seed is not None:
                self.generators[copy] = np.random.default_rng(seed)
        self.begin_trials(np.arange(self.num_envs))
        return self.observe_all()

    def transition(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of every copy without a reset; returns rewards, terminated and truncated, each ``[B]``."""
        rewards, terminated = self.advance(np.asarray(actions))
        self._steps += 1
        return rewards, terminated, self._steps >= self.horizon

    def step_all(self, actions: Any) -> FamilyStep:
        """One step of every copy; a copy whose episode ends is reset within the step."""
        rewards, terminated, truncated = self.transition(actions)
        ends = terminated | truncated
        last = None
        if ends.any():
            self._episode += ends
            done = ends & (self._episode >= self.trial_episodes)
            terminated, truncated = terminated & done, truncated & done
            if done.any():
                last = self.observe_all()
                self.begin_trials(np.flatnonzero(done))
            if len(inner := np.flatnonzero(ends & ~done)):
                self._begin_episodes(inner)
        return FamilyStep(self.observe_all(), rewards, terminated, truncated, last, ends)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Gymnasium's reset of a vector environment."""
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + copy for copy in range(self.num_envs)]
        return self.reset_seeded(seed), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Gymnasium's step of a vector environment, with SAME_STEP autoreset."""
        step = self.step_all(actions)
        info: dict[str, Any] = {"episode_ends": step.episode_ends} if self.trial_episodes > 1 else {}
        if step.last is not None:
            done = step.terminated | step.truncated
            last = np.full(self.num_envs, None, dtype=object)
            every = list(iterate(self.observation_space, step.last))
            for copy in np.flatnonzero(done):
                last[copy] = every[copy]
            info |= {"final_obs": last, "_final_obs": done}
        return *step[:4], info

    def capture(self) -> list[bytes]:
        """The state of every copy."""
        names = ("tasks", "_set_tasks", "_steps", "_episode", *self.STATE)
        return [
            pickle.dumps(({name: getattr(self, name)[copy] for name in names}, self.generators[copy]))
            for copy in range(self.num_envs)
        ]

    def restore(self, states: Sequence[bytes]) -> None:
        """Set every copy to a captured state."""
        for copy, state in enumerate(states):
            values, self.generators[copy] = pickle.loads(state)
            for name, value in values.items():
                getattr(self, name)[copy] = value

    def render(self) -> Any:
        """Pictures of all copies; see `draw`."""
        return tuple(map(self.draw, range(self.num_envs))) if self.render_mode == "rgb_array" else None


class FamilyEnv(gym.Env):
    """A single environment of a `VectorFamily`; a `TaskFamily`.

    Args:
        family: Its class, as ``"module:Name"``.
        render_mode: ``"rgb_array"``, or None.
        kwargs: Arguments of the family.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(self, family: str, render_mode: str | None = None, **kwargs: Any) -> None:
        self.render_mode = render_mode
        self.vector = vector_family(family, 1, render_mode=render_mode, **kwargs)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    @property
    def split(self) -> Split:
        """The tasks that resets draw from."""
        return self.vector.split

    @split.setter
    def split(self, split: Split) -> None:
        self.vector.split = split

    @property
    def task(self) -> np.ndarray:
        """``[D]``, the present task."""
        return self.vector.tasks[0].copy()

    @property
    def max_episode_steps(self) -> int:
        """Steps after which an episode is cut."""
        return self.vector.horizon

    @property
    def component_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the components of observations and actions (`envs.components`)."""
        return self.vector.component_names

    def sample_tasks(self, n: int, split: Split, rng: np.random.Generator) -> np.ndarray:
        """See `TaskFamily.sample_tasks`."""
        return self.vector.sample_tasks(n, split, rng)

    def set_task(self, task: Any) -> None:
        """See `TaskFamily.set_task`."""
        self.vector.set_tasks(None if task is None else np.asarray(task)[None])

    def oracle_action(self) -> Any:
        """See `TaskFamily.oracle_action`."""
        return self.vector.oracle_actions()[0]

    def oracle_return(self) -> float | None:
        """See `TaskFamily.oracle_return`."""
        returns = self.vector.oracle_returns()
        return None if returns is None else float(returns[0])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, of a new task unless one is set."""
        super().reset(seed=seed)
        self.vector.generators[0] = self.np_random
        return self._of_batch(self.vector.reset_seeded([None])), {}

    def _of_batch(self, obs: Any) -> Any:
        return next(iter(iterate(self.vector.observation_space, obs)))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step."""
        rewards, terminated, truncated = self.vector.transition(np.asarray(action)[None])
        return self._of_batch(self.vector.observe_all()), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """A picture."""
        return self.vector.draw(0) if self.render_mode == "rgb_array" else None


def vector_family(family: str, num_envs: int = 1, **kwargs: Any) -> VectorFamily:
    """Make a family's copies.

    Args:
        family: Its class, as ``"module:Name"``.
        num_envs: Number of copies.
        kwargs: Its arguments.

    Raises:
        ValueError: It has no such argument.
    """
    module, _, name = family.partition(":")
    kind: type[VectorFamily] = getattr(importlib.import_module(module), name)
    try:
        return kind(num_envs, **kwargs)
    except TypeError as error:
        # Gymnasium imports this module as a plugin, while `gym_ids` imports Gymnasium.
        from rllib_multienv.gym_ids import did_you_mean

        known = [name for base in kind.__mro__ for name in inspect.signature(base).parameters]
        for given in kwargs:
            if f"unexpected keyword argument {given!r}" in str(error):
                raise ValueError(f"{name}: there is no argument {given!r}.{did_you_mean(given, known)}") from error
        raise


def register_vector_family(env_id: str, family: str, **kwargs: Any) -> None:
    """Register a `VectorFamily` with Gymnasium, for `gym.make` and `gym.make_vec`.

    Args:
        env_id: Such as ``"multienv/GridNavi-v0"``.
        family: Its class, as ``"module:Name"``.
        kwargs: Its default arguments.
    """
    register(
        id=env_id,
        entry_point="rllib_multienv.tasks.family:FamilyEnv",
        vector_entry_point="rllib_multienv.tasks.family:vector_family",
        kwargs={"family": family, **kwargs},
    )
