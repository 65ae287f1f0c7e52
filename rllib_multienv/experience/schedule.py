"""Schedules: which environments an iteration samples, and how much of each.

``environment(schedule=...)`` sets one for training, and ``algo.set_schedule(...)`` changes it. A share of 1 is a whole
fragment of every runner that owns the environment; 0.5 half of its time steps, 2 twice as many.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import EnvSpec

__all__ = [
    "SCHEDULES", "FromFunction", "Interleave", "LearningProgress", "RandomChoice", "Regret", "Report", "RoundRobin",
    "Schedule", "Staggered", "Step", "Uniform", "UntilDone", "make_schedule", "randomized",
]  # fmt: skip

#: The agent of an environment with a single one.
AGENT = "agent"


class Step(NamedTuple):
    """What one agent is shown at a step.

    Attributes:
        observation: What it observes; of labelled data sets a pair (X, Y).
        reward: None at a reset, and where the environment has none.
        done: Whether its episode is over; of a data set, whether all epochs are.
        information: Everything else.
    """

    observation: Any
    reward: Any
    done: bool
    information: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a schedule knows.

    Attributes:
        iteration: Iterations so far.
        env_ids: Environments that may be sampled now.
        steps: Steps so far, by env id.
        returns: Mean returns, by env id; missing before the first episode is over.
        lengths: Steps after which a data set is done, by env id.
    """

    iteration: int
    env_ids: tuple[str, ...]
    steps: Mapping[str, int] = field(default_factory=dict)
    returns: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """Steps so far, of all environments."""
        return sum(self.steps.values())


class Schedule(ABC):
    """Decides before each iteration what it samples.

    A schedule of your own has :meth:`next`, and names in ``STATE`` the attributes that a checkpoint keeps.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    #: Whether it looks at `Report.lengths`, for which each environment is made once.
    NEEDS_LENGTHS: ClassVar[bool] = False

    @abstractmethod
    def next(self, report: Report) -> dict[str, float]:
        """Shares of the environments in ``report.env_ids``; those that are missing, or 0, are not sampled."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.STATE}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        for name in self.STATE:
            if name in state:
                setattr(self, name, copy.deepcopy(state[name]))


class Uniform(Schedule):
    """A whole fragment of every environment: what happens without a schedule."""

    def next(self, report: Report) -> dict[str, float]:
        """All of them."""
        return dict.fromkeys(report.env_ids, 1.0)


class RoundRobin(Schedule):
    """``count`` environments at a time, in turn."""

    STATE = ("turn",)

    def __init__(self, count: int = 1) -> None:
        self.count, self.turn = _at_least_one("count", count), 0

    def next(self, report: Report) -> dict[str, float]:
        """The next ones."""
        ids = report.env_ids
        chosen = [ids[(self.turn + i) % len(ids)] for i in range(min(self.count, len(ids)))]
        self.turn = (self.turn + self.count) % len(ids)
        return dict.fromkeys(chosen, 1.0)


class Interleave(Schedule):
    """Environments in the order of a pattern, such as ``["digits", "digits", "CartPole-v1"]``, over and over.

    An entry may be a list of environments that are sampled together. Entries that may not be sampled now are skipped.
    """

    STATE = ("turn",)

    def __init__(self, pattern: Sequence[str | Sequence[str]]) -> None:
        self.pattern = [(entry,) if isinstance(entry, str) else tuple(entry) for entry in pattern]
        self.turn = 0
        if not self.pattern:
            raise ValueError("Interleave: the pattern is empty.")

    def next(self, report: Report) -> dict[str, float]:
        """The pattern's next entry of which something may be sampled."""
        for _ in self.pattern:
            entry = [env_id for env_id in self.pattern[self.turn % len(self.pattern)] if env_id in report.env_ids]
            self.turn = (self.turn + 1) % len(self.pattern)
            if entry:
                return dict.fromkeys(entry, 1.0)
        return {}


class RandomChoice(Schedule):
    """``count`` different environments at random in each iteration.

    Args:
        count: How many.
        weights: How often, by env id; 1 where not given.
        seed: Of the draws.
    """

    STATE = ("generator",)

    def __init__(self, count: int = 1, weights: Mapping[str, float] | None = None, seed: int = 0) -> None:
        self.count, self.weights = _at_least_one("count", count), dict(weights or {})
        self.generator = np.random.default_rng(seed)

    def next(self, report: Report) -> dict[str, float]:
        """Some of them."""
        weights = np.array([self.weights.get(env_id, 1.0) for env_id in report.env_ids])
        count = min(self.count, int((weights > 0).sum()))
        chosen = self.generator.choice(len(weights), count, replace=False, p=weights / weights.sum())
        return {report.env_ids[i]: 1.0 for i in sorted(chosen.tolist())}


class UntilDone(Schedule):
    """One environment until it is done, then the next; after the last one the first again.

    A data set is done after its epochs. Any environment is done where its mean return has reached its target, or after
    so many steps since it was begun.

    Args:
        steps: Steps, of all environments or by env id.
        targets: Mean returns, by env id.
    """

    STATE = ("current", "begun_at")
    NEEDS_LENGTHS = True

    def __init__(
        self, steps: int | Mapping[str, int] | None = None, targets: Mapping[str, float] | None = None
    ) -> None:
        self.steps, self.targets = steps, dict(targets or {})
        self.current: str | None = None
        self.begun_at = 0

    def next(self, report: Report) -> dict[str, float]:
        """The present one, or the next where that is done."""
        ids = report.env_ids
        if self.current not in ids or self._is_done(self.current, report):
            after = ids.index(self.current) + 1 if self.current in ids else 0
            self.current = ids[after % len(ids)]
            self.begun_at = report.steps.get(self.current, 0)
        return {self.current: 1.0}

    def _is_done(self, env_id: str, report: Report) -> bool:
        limit = self.steps.get(env_id) if isinstance(self.steps, Mapping) else self.steps
        taken = report.steps.get(env_id, 0) - self.begun_at
        limits = [limit for limit in (limit, report.lengths.get(env_id)) if limit is not None]
        reached = env_id in self.targets and report.returns.get(env_id, -math.inf) >= self.targets[env_id]
        return reached or any(taken >= limit for limit in limits)


class _Shares(Schedule):
    """Shares in proportion to a number of each environment.

    Args:
        total: Whole fragments of an iteration, over all environments; None: as many as there are environments.
        floor: Share of the total that all environments have in equal parts.
    """

    def __init__(self, total: float | None = None, floor: float = 0.2) -> None:
        if not 0.0 <= floor <= 1.0:
            raise ValueError(f"floor={floor} must be between 0 and 1.")
        self.total, self.floor = total, floor

    @abstractmethod
    def interest(self, report: Report) -> dict[str, float]:
        """A number, at least 0, of each environment of the report."""

    def next(self, report: Report) -> dict[str, float]:
        """In proportion, but at least the floor; equal parts where nothing is known."""
        interest = self.interest(report)
        whole, count = sum(interest.values()), len(report.env_ids)
        total = count if self.total is None else self.total
        part = {e: interest[e] / whole if whole > 0.0 else 1.0 / count for e in report.env_ids}
        return {e: total * (self.floor / count + (1.0 - self.floor) * part[e]) for e in report.env_ids}


class LearningProgress(_Shares):
    """More of the environments whose mean return is changing (Oudeyer et al. 2007; Matiisen et al. 2017).

    Progress is the distance of a fast from a slow running mean of the return, over the range of the returns seen.

    Args:
        total: Whole fragments of an iteration, over all environments; None: as many as there are environments.
        floor: Share of the total that all environments have in equal parts.
        fast: Weight of the newest return in the fast mean.
        slow: The same of the slow one.
    """

    STATE = ("means", "bounds")

    def __init__(self, total: float | None = None, floor: float = 0.2, fast: float = 0.3, slow: float = 0.05) -> None:
        super().__init__(total, floor)
        self.fast, self.slow = fast, slow
        self.means: dict[str, tuple[float, float]] = {}
        self.bounds: dict[str, tuple[float, float]] = {}

    def interest(self, report: Report) -> dict[str, float]:
        """Progress; of environments that nothing is known of, the largest there is."""
        found = {}
        for env_id, value in report.returns.items():
            fast, slow = self.means.get(env_id, (value, value))
            low, high = self.bounds.get(env_id, (value, value))
            self.means[env_id] = fast + self.fast * (value - fast), slow + self.slow * (value - slow)
            self.bounds[env_id] = min(low, value), max(high, value)
        for env_id in report.env_ids:
            if env_id in self.means:
                (fast, slow), (low, high) = self.means[env_id], self.bounds[env_id]
                found[env_id] = abs(fast - slow) / max(high - low, 1e-6 + 0.05 * abs(high))
        most = max(found.values(), default=0.0)
        return {env_id: found.get(env_id, most) for env_id in report.env_ids}


class Regret(_Shares):
    """More of the environments whose mean return is far below a reference, such as a single agent's.

    Regret is the distance from the reference, as a share of the first return's.

    Args:
        references: Reference returns, by env id; environments without one have the mean regret of the others.
        total: Whole fragments of an iteration, over all environments; None: as many as there are environments.
        floor: Share of the total that all environments have in equal parts.
    """

    STATE = ("first",)

    def __init__(self, references: Mapping[str, float], total: float | None = None, floor: float = 0.2) -> None:
        super().__init__(total, floor)
        self.references = dict(references)
        self.first: dict[str, float] = {}

    def interest(self, report: Report) -> dict[str, float]:
        """Regret; 1 before the first return."""
        found = {}
        for env_id in report.env_ids:
            if env_id not in self.references:
                continue
            if env_id not in report.returns:
                found[env_id] = 1.0
                continue
            first = self.first.setdefault(env_id, report.returns[env_id])
            whole = max(self.references[env_id] - first, 1e-6 + 0.01 * abs(self.references[env_id]))
            found[env_id] = max(0.0, self.references[env_id] - report.returns[env_id]) / whole
        mean = sum(found.values()) / len(found) if found else 1.0
        return {env_id: found.get(env_id, mean) for env_id in report.env_ids}


class Staggered(Schedule):
    """Environments that begin and end at different times: staggered lifelong learning.

    Args:
        starts: Steps of all environments together from which an environment is sampled, by env id; 0 where not given.
        ends: Steps at which it is not sampled any more; never where not given.
    """

    def __init__(self, starts: Mapping[str, int] | None = None, ends: Mapping[str, int] | None = None) -> None:
        self.starts, self.ends = dict(starts or {}), dict(ends or {})

    def next(self, report: Report) -> dict[str, float]:
        """Those that have begun and not ended."""
        now = report.total_steps
        return {
            env_id: 1.0
            for env_id in report.env_ids
            if self.starts.get(env_id, 0) <= now < self.ends.get(env_id, math.inf)
        }


class FromFunction(Schedule):
    """A ``next_env_fn(last_step_data, curr_env, available_envs)`` as in `AEEnv`, called once for each iteration.

    ``available_envs`` have ``id`` and ``agent_names``; ``last_step_data`` has for each agent a `Step` whose reward is
    the mean return, and ``done`` says whether a data set's epochs are over; other environments are done after each
    iteration. None stands for the environment after the present one.
    """

    STATE = ("current", "begun_at")
    NEEDS_LENGTHS = True

    def __init__(self, function: Callable[[Any, Any, Sequence[Any]], Any]) -> None:
        self.function = function
        self.current: str | None = None
        self.begun_at = 0

    def next(self, report: Report) -> dict[str, float]:
        """The environment that the function returns; the first one at the beginning."""
        available = [SimpleNamespace(id=env_id, agent_names=(AGENT,)) for env_id in report.env_ids]
        current = next((env for env in available if env.id == self.current), None)
        chosen, done = available[0], True
        if current is not None:
            taken = report.steps.get(current.id, 0) - self.begun_at
            done = taken >= report.lengths.get(current.id, 0)
            step = Step(None, report.returns.get(current.id), done, {"iteration": report.iteration})
            chosen = self.function({AGENT: step}, current, available)
            if chosen is None:
                chosen = available[(available.index(current) + 1) % len(available)]
            if chosen not in available:
                raise ValueError(f"next_env_fn returned {chosen!r}, which is not one of available_envs.")
        if done or chosen.id != self.current:
            self.begun_at = report.steps.get(chosen.id, 0)
        self.current = chosen.id
        return {chosen.id: 1.0}


#: Schedules by their names in configuration files.
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "uniform": Uniform,
    "round_robin": RoundRobin,
    "interleave": Interleave,
    "random": RandomChoice,
    "until_done": UntilDone,
    "learning_progress": LearningProgress,
    "regret": Regret,
    "staggered": Staggered,
}


def make_schedule(value: Any) -> Schedule:
    """A schedule of what a user may write: None, a name, ``{"type": name, ...}``, a schedule, or a ``next_env_fn``.

    Raises:
        ValueError: There is no schedule of that name, or one of its arguments is wrong.
        TypeError: It is something else.
    """
    if value is None:
        return Uniform()
    if isinstance(value, Schedule):
        return copy.deepcopy(value)
    if isinstance(value, type) and issubclass(value, Schedule):
        return value()
    if isinstance(value, str):
        value = {"type": value}
    if isinstance(value, Mapping):
        arguments = dict(value)
        name = arguments.pop("type", None)
        if name not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"There is no schedule {name!r}; there are {known}.{did_you_mean(str(name), SCHEDULES)}")
        try:
            return SCHEDULES[name](**arguments)
        except TypeError as error:
            raise ValueError(f"schedule {name!r}: {error}") from None
    if callable(value):
        return FromFunction(value)
    raise TypeError(f"A schedule is a name, a mapping with 'type', a Schedule or a next_env_fn, not {value!r}.")


def randomized(
    env: Any, parameters: Mapping[str, tuple[float, float] | Sequence[Any]], *, count: int, seed: int = 0
) -> list[EnvSpec]:
    """``count`` environments that differ in parameters drawn at random: parallel randomised domains.

    Args:
        env: What they are variants of.
        parameters: Keyword arguments: a pair of numbers is a range, anything longer a list of values.
        count: How many; their ids are ``id-0``, ``id-1``, ...
        seed: Of the draws.
    """
    base, generator = EnvSpec.of(env), np.random.default_rng(seed)

    def draw(values: Sequence[Any]) -> Any:
        if len(values) == 2 and all(isinstance(value, int | float) for value in values):
            return float(generator.uniform(*values))
        return values[int(generator.integers(len(values)))]

    drawn = [{name: draw(values) for name, values in parameters.items()} for _ in range(count)]
    return [
        EnvSpec(
            f"{base.id}-{number}", make=base.make, kwargs={**base.kwargs, **own}, num_envs=base.num_envs,
            backend=base.backend, max_episode_steps=base.max_episode_steps, tags=base.tags,
        )
        for number, own in enumerate(drawn)
    ]  # fmt: skip


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1.")
    return value


def check_env_ids(schedule: Schedule, env_ids: Iterable[str]) -> None:
    """Check that the environments that a schedule names are those of the run.

    Raises:
        ValueError: One is not.
    """
    known = list(env_ids)
    named: list[str] = []
    if isinstance(schedule, Interleave):
        named += [env_id for entry in schedule.pattern for env_id in entry]
    for attribute in ("starts", "ends", "references", "targets", "weights", "steps"):
        values = getattr(schedule, attribute, None)
        named += list(values) if isinstance(values, Mapping) else []
    for env_id in named:
        if env_id not in known:
            kind = type(schedule).__name__
            raise ValueError(f"schedule {kind}: there is no environment {env_id!r}.{did_you_mean(env_id, known)}")
