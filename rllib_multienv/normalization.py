"""Running statistics that normalise observations and rewards, one set per environment.

The paper normalises observations and rewards with running means and standard deviations (section 3.2), because
without it the environment with the largest returns takes over the shared value loss. Nothing here needs Ray: the
runners, the checkpoint and :class:`~rllib_multienv.agent.MultiEnvAgent` use the same classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Normalised observations and rewards are clipped to plus and minus this value.
CLIP = 10.0
# Standard deviations have a floor: this, and what rounding in float64 leaves of a constant.
_FLOOR, _ROUNDING = 1e-8, 1e-14


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of a stream of vectors, merged exactly.

    Merging is the pairwise update of Chan, Golub and LeVeque (1979): the result does not depend on how the stream was
    split, to rounding in float64.
    """

    count: float
    mean: np.ndarray  # [D]
    m2: np.ndarray  # [D], sum of squared deviations from the mean

    @classmethod
    def empty(cls, size: int) -> Moments:
        """Moments of no data, for vectors of ``size`` numbers."""
        return cls(0.0, np.zeros(size), np.zeros(size))

    @classmethod
    def of(cls, rows: np.ndarray) -> Moments:
        """Moments of ``rows`` [N, D]."""
        rows = np.asarray(rows, dtype=np.float64)
        if len(rows) == 0:
            return cls.empty(rows.shape[1])
        mean = rows.mean(axis=0)
        return cls(float(len(rows)), mean, np.square(rows - mean).sum(axis=0))

    def merged(self, other: Moments) -> Moments:
        """Moments of both streams together."""
        count = self.count + other.count
        if count == 0:
            return Moments(0.0, self.mean.copy(), self.m2.copy())
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * (other.count / count),
            self.m2 + other.m2 + np.square(delta) * (self.count * other.count / count),
        )

    def weighing(self, count: float) -> Moments:
        """The same mean and variance, of at most ``count`` vectors."""
        share = min(1.0, count / self.count) if self.count > 0 else 1.0
        return Moments(self.count * share, self.mean, self.m2 * share)

    @property
    def variance(self) -> np.ndarray:
        """Population variance [D]; one where nothing was seen yet."""
        return self.m2 / self.count if self.count > 0 else np.ones_like(self.m2)

    @property
    def scale(self) -> np.ndarray:
        """Standard deviation [D] to divide by, never zero."""
        return np.maximum(np.sqrt(self.variance), _FLOOR + _ROUNDING * np.abs(self.mean))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON and for connector states."""
        return {"count": self.count, "mean": self.mean.tolist(), "m2": self.m2.tolist()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Moments:
        """Inverse of :meth:`to_dict`."""
        return cls(float(state["count"]), np.asarray(state["mean"], float), np.asarray(state["m2"], float))


@dataclass
class SharedMoments:
    """Moments that several processes collect together.

    ``base`` is what all of them agreed on at the last merge, ``delta`` what this process has seen since. A merge is
    ``base`` with everybody's ``delta``, so no row is counted twice, and none is lost, however many processes there are.

    Attributes:
        version: Grows with every change.
    """

    base: Moments
    delta: Moments = field(init=False)
    version: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Start with nothing seen since the base."""
        self.delta = Moments.empty(len(self.base.mean))

    def set(self, base: Moments, delta: Moments | None = None) -> None:
        """Take over statistics; without ``delta``, nothing was seen since the base."""
        self.base, self.delta = base, delta or Moments.empty(len(base.mean))
        self.version += 1

    @classmethod
    def empty(cls, size: int) -> SharedMoments:
        """No data yet, for vectors of ``size`` numbers."""
        return cls(Moments.empty(size))

    def add(self, rows: np.ndarray) -> None:
        """Count ``rows`` [N, D] as seen by this process."""
        self.delta = self.delta.merged(Moments.of(rows))
        self.version += 1

    def total(self) -> Moments:
        """Everything that this process knows of."""
        return self.base.merged(self.delta)

    def merge_deltas(self, deltas: Iterable[Moments]) -> Moments:
        """The common base with all ``deltas`` of the processes that share it."""
        merged = self.base
        for delta in deltas:
            merged = merged.merged(delta)
        return merged


class ObservationNormalizer:
    """Maps observations of one environment to zero mean and unit variance, clipped to ±:data:`CLIP`.

    Normalising changes nothing. Runners count a fragment when it is finished, so within a fragment every observation is
    mapped the same way, and the learner sees exactly what the policy saw (docs/deviations.md, 13).
    """

    def __init__(self, size: int) -> None:
        self.moments = SharedMoments.empty(size)
        self._version = -1

    @classmethod
    def of(cls, moments: Moments) -> ObservationNormalizer:
        """One that applies these statistics."""
        normalizer = cls(len(moments.mean))
        normalizer.moments.set(moments)
        return normalizer

    def _read(self) -> None:
        self._version = self.moments.version
        total = self.moments.total()
        # Observations in float64, such as coordinates far from the origin, are centred before they become float32.
        self._mean = {dtype: total.mean.astype(dtype) for dtype in (np.float32, np.float64)}  # [I]
        self._inverse_std = (1.0 / total.scale).astype(np.float32)  # [I]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Normalise ``observations`` [B, I] (float32 or float64); returns float32."""
        if self._version != self.moments.version:
            self._read()
        centred = observations - self._mean[observations.dtype.type]  # [B, I]
        normalised = centred.astype(np.float32, copy=False) * self._inverse_std
        return np.clip(normalised, -CLIP, CLIP, out=normalised)

    def inverse(self, normalised: np.ndarray) -> np.ndarray:
        """Observations ``[B, I]`` as they were before, but for what was clipped; float32."""
        if self._version != self.moments.version:
            self._read()
        return np.add(normalised / self._inverse_std, self._mean[np.float32], dtype=np.float32)  # [B, I]


class RewardNormalizer:
    """Divides rewards of one environment by the running standard deviation of their discounted return.

    The discounted return is followed per copy of the environment, ``g <- gamma * g + r``, and starts at zero with each
    episode. The mean is not subtracted: that would change which policy is best (docs/deviations.md, 15).
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.moments = SharedMoments.empty(1)
        self.returns = np.zeros(num_envs)  # [B], discounted return so far of the running episode of each copy

    def observe(self, rewards: np.ndarray, dones: np.ndarray, valid: np.ndarray) -> None:
        """Count a fragment: ``rewards``, ``dones`` (terminated or truncated) and ``valid`` (experience), all [T, B]."""
        seen = np.empty(rewards.shape)
        running = self.returns
        for t in range(len(rewards)):
            running = np.where(valid[t], self.gamma * running + rewards[t], running)
            seen[t] = running
            running = np.where(dones[t], 0.0, running)
        self.returns = running
        self.moments.add(seen[valid][:, None])

    @property
    def scale(self) -> float:
        """Divisor of rewards: the standard deviation, one where nothing was seen yet."""
        return float(self.moments.total().scale[0])
