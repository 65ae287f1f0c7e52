"""Learner piece: batches of steps with generalised advantages, from rollouts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rllib_multienv.connectors.pipelines import RolloutConnector
from rllib_multienv.normalization import CLIP
from rllib_multienv.rollout import EPISODE_ENDS, TARGETS, Rollout

#: Bytes of an environment's images in one forward pass for values, at most.
BLOCK_BYTES = 4 * 2**20


def generalized_advantages(
    rollout: Rollout,
    *,
    rewards: np.ndarray,
    values: np.ndarray,
    final_values: np.ndarray,
    gamma: float,
    lambda_: float,
    across_episodes: bool = True,
) -> np.ndarray:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16).

    Args:
        rollout: Says where episodes end.
        rewards: [T, B], as the values count them.
        values: [T, B], V of each step's observation.
        final_values: [F], V of :attr:`Rollout.final_obs`. It counts unless the step before it was terminal: a time
            limit is not an end, and neither is the end of a fragment (docs/deviations.md, 8).
        gamma: Discount factor.
        lambda_: Trace decay.
        across_episodes: Whether what follows within a trial counts for the steps of an earlier episode of it, as in
            RL². Otherwise nothing after an episode's last step does, whatever ended it.

    Returns:
        float64 [T, B]; without meaning where ``rollout.valid`` is False.
    """
    next_values = np.empty(values.shape)
    next_values[:-1] = values[1:]
    next_values.reshape(-1)[rollout.final_rows] = final_values
    ends = rollout.value_ends  # [T, B]
    if not across_episodes and EPISODE_ENDS in rollout.extra:
        ends = ends | rollout.extra[EPISODE_ENDS]
    next_values[ends] = 0.0
    deltas = rewards + gamma * next_values - values
    deltas[~rollout.valid] = 0.0
    decay = np.where(rollout.done | ends | ~rollout.valid, 0.0, gamma * lambda_)
    advantages = np.empty(values.shape)
    running = np.zeros(values.shape[1])  # [B]
    for t in reversed(range(len(values))):
        # A_t = delta_t + gamma lambda A_{t+1}, within an episode.
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    return advantages


class GeneralizedAdvantages(RolloutConnector):
    """One batch per environment, N valid steps of all its rollouts: what was seen and done, and advantages.

    Columns, as tensors: ``"obs"``, ``"actions"``, ``"action_logp"``, ``"action_dist_inputs"``, ``"advantages"``,
    ``"value_targets"``, ``"vf_preds"`` (values before the update) and the rollouts' extra columns.

    Data sets that are trained supervised have ``"obs"`` and ``"targets"`` only.

    Values of all environments come from one packed forward; of images from one for each `BLOCK_BYTES`. Images of a
    single rollout without steps that only reset are not copied. Rewards are divided by the environment's running scale.
    Advantages are standardised per environment over all that the learner was given of it, but not blown up where they
    are small (``min_advantage_std``; docs/deviations.md, 13).
    """

    def __init__(self, *, config: Any, device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.device = device or "cpu"

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], rollouts: Mapping[str, Sequence[Rollout]], **kwargs: Any
    ) -> dict[str, Any]:
        """Add every environment that has rollouts to ``batch``; columns that are there already stay."""
        found = {env_id: rollouts_ for env_id, rollouts_ in rollouts.items() if any(r.steps for r in rollouts_)}
        for env_id in [env_id for env_id, rollouts_ in found.items() if TARGETS in rollouts_[0].extra]:
            columns = _joined([_columns(rollout) for rollout in found.pop(env_id)])
            batch[env_id] = {key: self._tensor(columns[key]) for key in (Columns.OBS, TARGETS)}
        values = self._values(rl_module, found)
        for env_id, rollouts_ in found.items():
            columns = _joined([_columns(rollout) for rollout in rollouts_])
            columns |= self._advantages(env_id, rollouts_, values[env_id])
            batch[env_id] = {key: self._tensor(column) for key, column in columns.items()} | batch.get(env_id, {})
        return batch

    def _values(self, rl_module: Any, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, np.ndarray]:
        """float64 ``{env_id: [sum of n + F]}``, V of the observations in `_blocks`."""
        left = {env_id: _blocks(rollouts_) for env_id, rollouts_ in rollouts.items()}
        values: dict[str, list[np.ndarray]] = {env_id: [] for env_id in left}
        while left:
            batch = {env_id: {Columns.OBS: self._tensor(blocks.pop(0))} for env_id, blocks in left.items()}
            for env_id, found in rl_module.shared.compute_values(batch).items():
                values[env_id].append(found.double().cpu().numpy())
            left = {env_id: blocks for env_id, blocks in left.items() if blocks}
        return {env_id: np.concatenate(parts) for env_id, parts in values.items()}

    def _advantages(self, env_id: str, rollouts: Sequence[Rollout], values: np.ndarray) -> dict[str, np.ndarray]:
        """Advantages, value targets and values [N].

        Args:
            env_id: The environment.
            rollouts: Its rollouts.
            values: For each of them V of the valid steps' observations [n], then of the final ones [F].
        """
        config = self.config.get_config_for_module(env_id)
        parts, start = [], 0
        for rollout in rollouts:
            final = start + rollout.steps
            rewards = rollout.clipped_rewards / rollout.reward_scale
            if self.config.normalize_rewards:
                rewards = np.clip(rewards, -CLIP, CLIP)
            step_values = np.zeros(rollout.valid.shape)  # [T, B]
            step_values[rollout.valid] = values[start:final]
            start = final + len(rollout.final_obs)
            advantages = generalized_advantages(
                rollout,
                rewards=rewards,
                values=step_values,
                final_values=values[final:start],
                gamma=config.gamma,
                lambda_=config.lambda_,
                across_episodes=config.advantages_across_episodes,
            )
            parts.append((advantages[rollout.valid], step_values[rollout.valid]))  # [n] each
        advantages, step_values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))  # [N]
        floor = self.config.min_advantage_std if self.config.normalize_rewards else 0.0
        standardised = (advantages - advantages.mean()) / max(advantages.std(), floor, 1e-8)
        return {
            Columns.VF_PREDS: step_values.astype(np.float32),
            Postprocessing.VALUE_TARGETS: (advantages + step_values).astype(np.float32),
            Postprocessing.ADVANTAGES: standardised.astype(np.float32),
        }

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        with warnings.catch_warnings():
            # Images in the object store are read-only, and nobody writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _blocks(rollouts: Sequence[Rollout]) -> list[np.ndarray]:
    """For each rollout the observations of its valid steps [n, ...], then the final ones [F, ...].

    They are joined or, where they are bytes, views of at most `BLOCK_BYTES` each.
    """
    parts = [part for rollout in rollouts for part in (_observations(rollout), rollout.final_obs)]
    if parts[0].dtype != np.uint8:
        return [np.concatenate(parts)]
    rows = max(1, BLOCK_BYTES // parts[0].shape[1])
    return [part[first : first + rows] for part in parts for first in range(0, len(part), rows)]


def _observations(rollout: Rollout) -> np.ndarray:
    """Those of the valid steps [n, ...]. Images are large, and nobody writes to them: they are not copied."""
    if rollout.obs.dtype == np.uint8 and rollout.valid.all():
        return rollout.obs.reshape(-1, rollout.obs.shape[-1])
    return rollout.obs[rollout.valid]


def _columns(rollout: Rollout) -> dict[str, np.ndarray]:
    """What was seen and done in the valid steps of a rollout, [n, ...] each."""
    columns = {
        Columns.ACTIONS: rollout.actions,
        Columns.ACTION_LOGP: rollout.logp,
        Columns.ACTION_DIST_INPUTS: rollout.action_dist_inputs,
        **rollout.extra,
    }
    found = {key: column[rollout.valid] for key, column in columns.items() if column is not None}
    return {Columns.OBS: _observations(rollout), **found}


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns of all parts one after another, [N, ...] each."""
    return dict(parts[0]) if len(parts) == 1 else {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
