"""What a running experiment has reported so far, kept for the display; no Ray here."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rllib_multienv.config_files.stopping import StopCriteria
from rllib_multienv.evaluation.progress import ONLINE, ResultKeys, keys_of


@dataclass
class EnvStatus:
    """The latest numbers of one environment; None where nothing is known yet."""

    env_id: str
    steps: int = 0
    last: float | None = None
    best: float | None = None
    policy_loss: float | None = None
    vf_loss: float | None = None
    entropy: float | None = None
    steps_per_second: float | None = None


@dataclass
class TrialStatus:
    """The latest numbers of one trial.

    Args:
        name: The trial's name.
        stop: Its stop criteria, for the time that is left.
        keys: Where its results say what; `steps` counts `keys.unit`.
    """

    name: str
    stop: StopCriteria
    iteration: int = 0
    steps: int = 0
    seconds: float = 0.0
    steps_per_second: float | None = None
    keys: ResultKeys = ONLINE
    envs: dict[str, EnvStatus] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    _recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=10))
    _received: float | None = None

    def update(self, row: Mapping[str, float], *, replayed: bool = False) -> None:
        """Takes in one flat result.

        Args:
            row: The result, as `flatten_result` gives it.
            replayed: It is an old one, read from the progress of the run that is resumed.
        """
        # The mean over no episode is NaN: as good as not there.
        row = {key: value for key, value in row.items() if math.isfinite(value)}
        self.latest = row
        self.iteration = int(row.get("training_iteration", self.iteration + 1))
        self.seconds = row.get("time_total_s", self.seconds)
        self.keys = keys = keys_of(row)
        self.steps = int(row.get(keys.total, row.get(f"{keys.returns}{keys.total}", self.steps)))
        self._recent.append(row)
        self._received = None if replayed else time.monotonic()
        self.steps_per_second = self._rate(keys.total)
        for env_id in keys.env_ids(row):
            status = self.envs.setdefault(env_id, EnvStatus(env_id))
            status.steps = int(row.get(keys.steps(env_id), status.steps))
            status.last = row.get(keys.episode_return("mean", env_id), status.last)
            if status.last is not None:
                status.best = status.last if status.best is None else max(status.best, status.last)
            status.policy_loss = row.get(f"learners/{env_id}/policy_loss", status.policy_loss)
            status.vf_loss = row.get(f"learners/{env_id}/vf_loss", status.vf_loss)
            status.entropy = row.get(f"learners/{env_id}/entropy", status.entropy)
            status.steps_per_second = self._rate(keys.steps(env_id))

    def seconds_left(self) -> float | None:
        """About how long the training still takes; None where the stop criteria do not say."""
        if not self.latest:
            return None
        rates = {key: rate for key in self.stop.any_of if (rate := self._rate(key)) is not None}
        left = self.stop.seconds_left(self.latest, rates)
        if left is None or self._received is None:
            return left
        return max(0.0, left - (time.monotonic() - self._received))

    def _rate(self, key: str) -> float | None:
        """Growth of `key` per second of training over the last results."""
        rows = [row for row in self._recent if key in row and "time_total_s" in row]
        if not rows:
            return None
        first, last = rows[0], rows[-1]
        if len(rows) == 1:
            seconds = last["time_total_s"]
            return last[key] / seconds if seconds > 0 else None
        seconds = last["time_total_s"] - first["time_total_s"]
        return (last[key] - first[key]) / seconds if seconds > 0 else None
