"""Meta-World's manipulation tasks (version 3), and its multi-task benchmarks MT10, MT25 and MT50.

The package's own environments ignore the seed of `reset`, draw other goals in each copy, and declare a space that the
goal lies outside of; otherwise these are the same. It needs the extra ``metaworld``.
"""

from __future__ import annotations

import functools
import importlib.util
import pickle
import warnings
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks.family import Split, TaskSplits

if TYPE_CHECKING:

    class _Sawyer(gym.Env):
        sawyer_observation_space: spaces.Box
        _last_rand_vec: np.ndarray | None

        def __init__(self, **kwargs: Any) -> None: ...
        def set_task(self, task: Any) -> None: ...
        def _get_pos_goal(self) -> np.ndarray: ...
else:  # mixed in before one of Meta-World's classes
    _Sawyer = object

__all__ = ["make_meta_world", "meta_world", "metaworld_mt10", "metaworld_mt25", "metaworld_mt50"]

Benchmark = Literal["MT10", "MT25", "MT50"]

_OBJECT = tuple(f"position {axis}" for axis in "xyz") + tuple(f"quaternion {axis}" for axis in "xyzw")
_SEEN = (
    *(f"position {axis} hand" for axis in "xyz"),
    "opening gripper",
    *(f"{name} object {number}" for number in ("first", "second") for name in _OBJECT),
)
_NAMES = (*_SEEN, *(f"previous {name}" for name in _SEEN), *(f"position {axis} goal" for axis in "xyz"))
_ACTIONS = (*(f"move {axis} hand" for axis in "xyz"), "close gripper")


def _require() -> None:
    if importlib.util.find_spec("metaworld") is None:
        raise ValueError("Meta-World is not installed: pip install 'rllib-multienv[metaworld]'.")


@functools.cache
def _goals(name: str, seed: int) -> tuple[np.ndarray, bytes]:
    """``[50, D]``, places of objects and goals of a task, and the package's own form of the first one."""
    import metaworld

    tasks = metaworld.MT1(name, seed=seed).train_tasks
    return np.array([pickle.loads(task.data)["rand_vec"] for task in tasks]), pickle.dumps(tasks[0])


class _MetaWorld(TaskSplits, _Sawyer):
    """A `TaskFamily` out of an environment of Meta-World; see `make_meta_world`."""

    def __init__(
        self,
        name: str,
        *,
        split: Split = "train",
        task_visible: bool = False,
        goal_visible: bool = True,
        goals_seed: int = 42,
        reward_version: str = "v2",
        terminate_on_success: bool = False,
        render_mode: Any = None,
    ) -> None:
        self.check_split(split)
        self.name, self.split, self.task_visible, self.goal_visible = name, split, task_visible, goal_visible
        self.goals_seed, self.terminate_on_success = goals_seed, terminate_on_success
        self._given: np.ndarray | None = None
        super().__init__(reward_function_version=reward_version, render_mode=render_mode)
        super().set_task(pickle.loads(_goals(name, goals_seed)[1]))  # with a visible goal
        self._partially_observable = not goal_visible
        extra = len(self.task) if task_visible else 0
        space, wide = self.sawyer_observation_space, np.full(extra, np.inf)
        self.observation_space = spaces.Box(np.append(space.low, -wide), np.append(space.high, wide), dtype=np.float64)
        self.component_names = (*_NAMES, *(f"task number {i}" for i in range(extra))), _ACTIONS

    @property
    def task(self) -> np.ndarray:
        """``[D]``, the present task: places of objects and goal."""
        assert self._last_rand_vec is not None
        return self._last_rand_vec.copy()

    def listed_tasks(self, split: Split) -> np.ndarray:
        """``[50, D]``; where the goal is visible, as in the multi-task benchmarks, both splits have the same ones."""
        return _goals(self.name, self.goals_seed + (split == "test" and not self.goal_visible))[0]

    def set_task(self, task: Any) -> None:
        """See `TaskFamily.set_task`."""
        self._given = None if task is None else np.array(task, dtype=np.float64)

    def oracle_action(self) -> np.ndarray:
        """The package's scripted policy."""
        from metaworld.policies import ENV_POLICY_MAP

        policy: Any = ENV_POLICY_MAP[self.name]
        obs = np.concatenate([self._seen[:36], self._get_pos_goal()])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that its actions are clipped
            return np.clip(policy().get_action(obs), -1, 1).astype(np.float32)

    def oracle_return(self) -> float | None:
        """None: the best return is not known."""
        return None

    def _observed(self, obs: np.ndarray) -> np.ndarray:
        self._seen = np.clip(obs, self.sawyer_observation_space.low, self.sawyer_observation_space.high)
        return np.concatenate([self._seen, self.task]) if self.task_visible else self._seen

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode, of a new task unless one is set."""
        gym.Env.reset(self, seed=seed)
        drawn = self._given is None
        self._last_rand_vec = self.sample_tasks(1, self.split, self.np_random)[0] if drawn else self._given
        obs, info = super().reset()
        return self._observed(obs), info

    def step(self, action: np.ndarray) -> Any:
        """The package's step."""
        obs, reward, _, truncated, info = super().step(action)
        done = self.terminate_on_success and bool(info["success"])
        return self._observed(obs), float(reward), done, truncated, info


@functools.cache
def _class_of(name: str) -> type:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    if name not in ALL_V3_ENVIRONMENTS:
        raise ValueError(f"Meta-World has no task {name!r}.{did_you_mean(name, ALL_V3_ENVIRONMENTS)}")
    return type("MetaWorld", (_MetaWorld, ALL_V3_ENVIRONMENTS[name]), {})


def make_meta_world(name: str, **kwargs: Any) -> gym.Env:
    """Make an environment of Meta-World, a `TaskFamily` with 50 goals.

    Args:
        name: The task, such as ``"reach-v3"``.
        kwargs: ``goal_visible=True``: whether the observation has the goal (the multi-task setting; False: that of
            meta-learning, whose test split has other goals). ``goals_seed=42`` draws the goals.
            ``reward_version="v2"``, or ``"v1"``: returns of the two are not comparable.
            ``terminate_on_success=False``. ``split``, ``task_visible`` and ``render_mode`` as in any family.

    Raises:
        ValueError: There is no such task, or the package is not installed.
    """
    _require()
    made: gym.Env = _class_of(name)(name, **kwargs)
    return made


def meta_world(benchmark: Benchmark, **kwargs: Any) -> list[EnvSpec]:
    """The environments of a multi-task benchmark.

    Args:
        benchmark: ``"MT10"``, ``"MT25"`` or ``"MT50"``.
        kwargs: Those of `make_meta_world`.

    Returns:
        Specs with the tasks' names as ids, in the benchmark's order.

    Raises:
        ValueError: The package is not installed.
    """
    _require()
    from metaworld import env_dict

    version = kwargs.get("reward_version", "v2")
    return [
        EnvSpec(
            name,
            make="multienv/MetaWorld-v0",
            kwargs={"name": name, **kwargs},
            description=f"Meta-World {name.rpartition('-')[0].replace('-', ' ')}, rewards {version}",
            tags=("domain:robot/manipulation", f"suite:metaworld/{benchmark.lower()}"),
        )
        for name in getattr(env_dict, f"{benchmark}_V3")
    ]


def metaworld_mt10(**kwargs: Any) -> list[EnvSpec]:
    """The ten environments of MT10; see `meta_world`."""
    return meta_world("MT10", **kwargs)


def metaworld_mt25(**kwargs: Any) -> list[EnvSpec]:
    """The 25 environments of MT25; see `meta_world`."""
    return meta_world("MT25", **kwargs)


def metaworld_mt50(**kwargs: Any) -> list[EnvSpec]:
    """The 50 environments of MT50; see `meta_world`."""
    return meta_world("MT50", **kwargs)
