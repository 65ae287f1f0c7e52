"""Metric keys of this package, beside RLlib's own. Each stands here once, with what it counts.

A result has them under ``env_runners/``, ``evaluation/env_runners/`` or ``learners/``, by env id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Sampling, under env_runners/ (and evaluation/env_runners/), by env id

#: Mean, least and largest return, and mean length, of the last episodes (a window of
#: ``metrics_num_episodes_for_smoothing``; in evaluation all episodes).
MODULE_EPISODE_RETURN_MEAN = "module_episode_return_mean"
MODULE_EPISODE_RETURN_MIN = "module_episode_return_min"
MODULE_EPISODE_RETURN_MAX = "module_episode_return_max"
MODULE_EPISODE_LEN_MEAN = "module_episode_len_mean"
#: Standard deviation of the returns of the episodes since the last result.
MODULE_EPISODE_RETURN_STD = "module_episode_return_std"
#: Episodes since the last result.
MODULE_EPISODES = "module_episodes"
#: Return of every episode since the last result.
EPISODE_RETURNS = "episode_returns"
#: Average, median and least of the environments' mean returns.
EPISODE_RETURN_AVERAGE = "episode_return_average"
EPISODE_RETURN_MEDIAN = "episode_return_median"
EPISODE_RETURN_WORST = "episode_return_worst"
#: Fragments that were sampled, or asked for, and could not be used.
NUM_FRAGMENTS_LOST_LIFETIME = "num_fragments_lost_lifetime"
#: Steps of experience in lost fragments.
NUM_ENV_STEPS_LOST_LIFETIME = "num_env_steps_lost_lifetime"

# Learning, under learners/

#: Global norm of the combined gradient before it is clipped (under ``__all_modules__``).
GRADIENT_NORM = "gradient_norm"
#: Optimiser steps left out because their gradient was not finite (under ``__all_modules__``).
NUM_STEPS_SKIPPED_LIFETIME = "num_steps_skipped_lifetime"
#: Cosine of the gradients of two environments: ``learners/A/gradient_cosine/B``.
GRADIENT_COSINE = "gradient_cosine"

# Learning offline (by env id, but for the first)

#: Optimiser steps made; at the top of a result.
NUM_STEPS_LIFETIME = "num_steps_lifetime"
#: Loss of Q, summed over its estimates.
QF_LOSS = "qf_loss"
#: Share of the variance of Q's targets that Q explains.
QF_EXPLAINED_VAR = "qf_explained_var"
#: Mean of Q - V, in normalised rewards.
ADVANTAGE_MEAN = "advantage_mean"
#: Share of the policy's weights that are at their bound.
CLIPPED_WEIGHTS = "clipped_weights"

# Flat results, with ``/`` between the keys


@dataclass(frozen=True, kw_only=True)
class ResultKeys:
    """Keys of a flat result.

    Args:
        total, unit: What training counts, and its name.
        env_total, env_unit: The same of one environment; ``{}`` stands for its id.
        returns: Prefix of the returns per episode.
    """

    total: str
    unit: str
    env_total: str
    env_unit: str
    returns: str

    def steps(self, env_id: str) -> str:
        """How much of an environment was trained on."""
        return self.env_total.format(env_id)

    def episode_return(self, which: str, env_id: str) -> str:
        """The ``"mean"``, ``"min"`` or ``"max"`` of the last episodes' returns."""
        return f"{self.returns}module_episode_return_{which}/{env_id}"

    def env_ids(self, keys: Iterable[str]) -> list[str]:
        """The environments in a flat result, in the order of its keys."""
        before, after = self.env_total.split("{}")
        patterns = ((before, after), (self.episode_return("mean", ""), ""))
        ids = (
            key.removeprefix(prefix).removesuffix(suffix)
            for prefix, suffix in patterns
            for key in keys
            if key.startswith(prefix) and key.endswith(suffix)
        )
        return [env_id for env_id in dict.fromkeys(ids) if env_id != "__all_modules__"]


ONLINE = ResultKeys(
    total="num_env_steps_sampled_lifetime",
    unit="steps",
    env_total="env_runners/num_module_steps_sampled_lifetime/{}",
    env_unit="steps",
    returns="env_runners/",
)
#: Offline, returns come from evaluation alone.
OFFLINE = ResultKeys(
    total=NUM_STEPS_LIFETIME,
    unit="optimiser steps",
    env_total="learners/{}/num_module_steps_trained_lifetime",
    env_unit="transitions",
    returns="evaluation/env_runners/",
)


def keys_of(row: Iterable[str]) -> ResultKeys:
    """The keys of a flat result, or of a progress."""
    return OFFLINE if OFFLINE.total in row else ONLINE
