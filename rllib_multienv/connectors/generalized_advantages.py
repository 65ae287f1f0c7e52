"""Learner piece: generalised advantage estimation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rllib_multienv.connectors.episodes_to_batch import CHUNK_LENGTHS, LAST_OBS, REWARD_SCALES
from rllib_multienv.discounting import discounted_sums
from rllib_multienv.normalization import CLIP


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    last_values: np.ndarray,
    terminated: np.ndarray,
    lengths: np.ndarray,
    *,
    gamma: float,
    lambda_: float,
) -> np.ndarray:
    """Advantages of episode chunks that follow one another (Schulman et al. 2016, equation 16).

    Args:
        rewards: [N], the steps of all chunks.
        values: [N], V of each step's observation.
        last_values: [C], V of the observation after each chunk's last step. It counts unless the chunk ended in a
            terminal state: a time limit is not one, and neither is the end of a fragment
            (docs/deviations.md, 8).
        terminated: [C].
        lengths: [C], with sum N.
        gamma: Discount factor.
        lambda_: Trace decay.

    Returns:
        [N], float64.
    """
    ends = np.cumsum(lengths) - 1  # [C], row of each chunk's last step
    next_values = np.empty(len(rewards))
    next_values[:-1] = values[1:]
    next_values[ends] = np.where(terminated, 0.0, last_values)
    deltas = rewards + gamma * next_values - values
    advantages = np.empty(len(rewards))
    for end, length in zip(ends, lengths, strict=True):
        rows = slice(end - length + 1, end + 1)
        # A_t = delta_t + gamma lambda A_{t+1}, backwards.
        advantages[rows] = discounted_sums(deltas[rows][::-1], gamma * lambda_)[::-1]
    return advantages


class GeneralizedAdvantages(ConnectorV2):
    """Adds ``"advantages"``, ``"value_targets"`` and ``"vf_preds"`` to every environment's batch, as tensors.

    Values of all environments come from one packed forward. Rewards are divided by the environment's running scale.
    Advantages are standardised per environment over all that the learner was given of it, but not blown up where they
    are small (``min_advantage_std``; docs/deviations.md, 13).
    """

    def __init__(self, *, config: Any, device: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.device = device or "cpu"

    def __call__(self, *, rl_module: Any, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Compute advantages, drop the columns that served only for that, and convert the rest to tensors."""
        values = rl_module.shared.compute_values(
            {
                env_id: {Columns.OBS: self._tensor(np.concatenate([columns[Columns.OBS], columns[LAST_OBS]]))}
                for env_id, columns in batch.items()
            }
        )
        result = {}
        for env_id, columns in batch.items():
            config = self.config.get_config_for_module(env_id)
            lengths = columns.pop(CHUNK_LENGTHS)
            scales = columns.pop(REWARD_SCALES)
            columns.pop(LAST_OBS)
            all_values = values[env_id].double().cpu().numpy()
            step_values, last_values = all_values[: -len(lengths)], all_values[-len(lengths) :]
            rewards = columns.pop(Columns.REWARDS) / np.repeat(scales, lengths)
            if self.config.normalize_rewards:
                rewards = np.clip(rewards, -CLIP, CLIP)
            advantages = generalized_advantages(
                rewards,
                step_values,
                last_values,
                columns.pop(Columns.TERMINATEDS),
                lengths,
                gamma=config.gamma,
                lambda_=config.lambda_,
            )
            columns[Columns.VF_PREDS] = step_values.astype(np.float32)
            columns[Postprocessing.VALUE_TARGETS] = (advantages + step_values).astype(np.float32)
            floor = self.config.min_advantage_std if self.config.normalize_rewards else 0.0
            standardised = (advantages - advantages.mean()) / max(advantages.std(), floor, 1e-8)
            columns[Postprocessing.ADVANTAGES] = standardised.astype(np.float32)
            result[env_id] = {key: self._tensor(column) for key, column in columns.items()}
        return result

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
