"""Metric keys of this package, beside RLlib's own. Each stands here once, with what it counts.

A result has them under ``env_runners/``, ``evaluation/env_runners/`` or ``learners/``, by env id.
"""

from __future__ import annotations

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
