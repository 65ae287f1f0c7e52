"""Task families whose MDPs are MuJoCo simulations: what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle

from rllib_multienv.tasks.family import Split, TaskSplits

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv

    class _Body(MujocoEnv, EzPickle):
        def _get_obs(self) -> np.ndarray: ...
else:
    _Body = object

__all__ = ["MujocoFamily"]


class MujocoFamily(TaskSplits, _Body):
    """A `TaskFamily` out of an environment of MuJoCo: ``class Family(MujocoFamily, HalfCheetahEnv)``.

    A subclass has `draw_tasks` or `listed_tasks`, and whatever depends on the task, such as the environment's own
    ``_get_rew``. No best return is known for any of them.

    Args:
        split: The tasks that resets draw from.
        task: ``[D]``, a task that all resets have instead, which makes it a plain environment.
        task_visible: Whether the task is appended to the observation.
        num_train_tasks: Number of training tasks, a fixed list; None: the training split is the whole distribution.
        kwargs: The environment's own.
    """

    task_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        split: Split = "train",
        task: Sequence[float] | None = None,
        task_visible: bool = False,
        num_train_tasks: int | None = 100,
        **kwargs: Any,
    ) -> None:
        self.check_split(split)
        if task is not None and np.shape(task) != (len(self.task_names),):
            raise ValueError(f"{type(self).__name__}: task={task!r} must be a list of {len(self.task_names)} numbers.")
        self.split, self.task_visible, self.num_train_tasks = split, task_visible, num_train_tasks
        self._task = np.zeros(len(self.task_names))
        self._own_task = self._set_task = None if task is None else np.array(task, dtype=np.float64)
        super().__init__(**kwargs)
        # Gymnasium's own constructors leave out what they do not know.
        own = {"split": split, "task": task, "task_visible": task_visible, "num_train_tasks": num_train_tasks}
        EzPickle.__init__(self, **own, **kwargs)
        #: Names of the components that follow those of the model.
        self.extra_names = tuple(f"task {name}" for name in self.task_names) if task_visible else ()
        if task_visible:
            size = self.observation_space.shape[0] + len(self.task_names)  # type: ignore[index]
            self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)

    @property
    def task(self) -> np.ndarray:
        """``[D]``, the present task."""
        return self._task.copy()

    def set_task(self, task: Any) -> None:
        """See `TaskFamily.set_task`."""
        given = self._own_task if task is None else np.array(task, dtype=np.float64)
        self._set_task = None if given is None else given.reshape(len(self.task_names))

    def oracle_action(self) -> Any:
        """None: a scripted policy exists only where a subclass has one."""
        return None

    def oracle_return(self) -> float | None:
        """None: the best return is not known."""
        return None

    def begin_task(self) -> None:
        """Called at the start of each episode, after `task` is known and before the first state is drawn."""

    def reset_model(self) -> np.ndarray:
        """The environment's own reset, of a new task unless one is set."""
        given = self._set_task
        self._task = self.sample_tasks(1, self.split, self.np_random)[0] if given is None else given.copy()
        self.begin_task()
        return super().reset_model()

    def _get_obs(self) -> np.ndarray:
        obs = super()._get_obs()
        return np.concatenate([obs, self._task]) if self.task_visible else obs
