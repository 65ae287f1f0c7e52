"""Learner piece: batches of whole trials, with the advantages of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rllib_multienv.connectors.pipelines import RolloutConnector
from rllib_multienv.inner_loop import InnerLoop
from rllib_multienv.rollout import EPISODE_ENDS, FIRST, VALID, Rollout

#: Column of the number of inner steps before each row, ``[N]``.
STAGE = "stage"
#: Column of the number of a row's task, ``[N]``, where tasks have something of their own; also in `Rollout.extra`.
TASK = "task"


class TrialBatches(RolloutConnector):
    """One batch per environment: the rows of its finished trials, as sequences of which each is a trial.

    Columns are those of `GeneralizedAdvantages` for a network with memory, whose state here has no numbers, and
    `STAGE`. Trials that a fragment's end cuts off are left out.
    """

    def __init__(self, *, config: Any, device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.device = config, device or "cpu"

    def __call__(self, *, batch: dict[str, Any], rollouts: Mapping[str, Sequence[Rollout]], **kwargs: Any) -> Any:
        """Add every environment that has rollouts to ``batch``.

        Raises:
            ValueError: No trial of an environment is finished.
        """
        for env_id, own in rollouts.items():
            if any(rollout.steps for rollout in own):
                batch[env_id] = self._columns(env_id, own) | batch.get(env_id, {})
        return batch

    def _columns(self, env_id: str, rollouts: Sequence[Rollout]) -> dict[str, torch.Tensor]:
        inner_loop: InnerLoop = self.config.inner_loop
        trials = [trial for rollout in rollouts for trial in self._trials(env_id, rollout, inner_loop)]
        if not trials:
            raise ValueError(
                f"Environment {env_id!r}: no trial of {inner_loop.trial_episodes} episodes is finished within a "
                f"fragment of {len(rollouts[0].valid)} time steps. Set env_runners(rollout_fragment_length=...) to the "
                "time steps of whole trials, or fewer training(inner_episodes=...)."
            )
        lengths = np.array([len(trial[STAGE]) for trial in trials])  # [S]
        valid = np.arange(lengths.max())[:, None] < lengths  # [L, S]
        columns = {VALID: valid, FIRST: np.zeros_like(valid), Columns.STATE_IN: np.zeros((len(trials), 0), np.float32)}
        for key, like in trials[0].items():
            padded = np.zeros((*valid.shape, *like.shape[1:]), like.dtype)  # [L, S, ...]
            for number, trial in enumerate(trials):
                padded[: lengths[number], number] = trial[key]
            columns[key] = padded[valid]  # [N, ...], time first
        return {key: torch.from_numpy(column).to(self.device) for key, column in columns.items()}

    def _trials(self, env_id: str, rollout: Rollout, inner_loop: InnerLoop) -> list[dict[str, np.ndarray]]:
        """The columns of each finished trial, [n, ...] each."""
        found = []
        for b, first, stop in rollout.chunks():
            if not rollout.done[stop - 1, b]:
                continue
            steps = np.flatnonzero(rollout.valid[first:stop, b]) + first  # [n]
            ends = rollout.extra[EPISODE_ENDS][steps, b]
            stages = (np.cumsum(ends) - ends) // inner_loop.episodes  # [n]
            assert rollout.logp is not None
            columns = {
                Columns.OBS: rollout.obs,
                Columns.ACTIONS: rollout.actions,
                Columns.ACTION_LOGP: rollout.logp,
                Columns.ACTION_DIST_INPUTS: rollout.action_dist_inputs,
            }
            if TASK in rollout.extra:
                columns[TASK] = rollout.extra[TASK]
            trial = {key: column[steps, b] for key, column in columns.items()}
            advantages = np.zeros(len(steps), np.float32)
            for stage in range(inner_loop.steps + 1):
                own = stages == stage
                given = {"obs": trial[Columns.OBS][own], "rewards": rollout.rewards[steps, b][own], "ends": ends[own]}
                advantages[own] = inner_loop.advantages(self.config.space_specs[env_id], env_id, given)
            found.append({**trial, Postprocessing.ADVANTAGES: advantages, STAGE: stages.astype(np.int64)})
        return found
